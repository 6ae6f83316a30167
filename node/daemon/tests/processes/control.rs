//! The control socket: whose it is, what it says of itself, and what it refuses.

use super::socket::{Answer, Stream, ask, path, raw, send, send_as};
use super::support::{BUCKET, World, get, put};
use serde_json::{Value, json};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use strongroom::limits::{CONTROL_BODY_LEN_BYTES_MAX, EVENT_STREAMS_MAX};

#[tokio::test]
async fn every_path_that_is_described_is_answered_and_the_socket_is_its_owners() {
    let world = World::start().await;
    let metadata = std::fs::metadata(path(&world, 1)).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);

    let description = ask(&world, 1, "GET", "/v1/openapi.json");
    assert_eq!((description.status, description.header("content-type")), (200, Some("application/json")));
    let description = description.json();
    assert!(description["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    let mut answered = 0;
    for (target, operations) in description["paths"].as_object().unwrap() {
        let filled = target.replace("{id}", "4711").replace("{drive}", "none").replace("{name}", "_");
        let filled = filled.replace("{subject}", "none").replace("{node}", "none");
        for method in operations.as_object().unwrap().keys() {
            let query = if target == "/v1/events" { "?follow=false" } else { "" };
            let answer = ask(&world, 1, &method.to_uppercase(), &format!("{filled}{query}"));
            let said = answer.text();
            assert_ne!(answer.status, 405, "{method} {target}: {said}");
            assert!(!said.contains("no-such-path"), "{method} {target}: {said}");
            let described = &operations[method]["responses"][answer.status.to_string()];
            // A body that is missing, or a part of the path that fits nothing, is refused in a way that is not spelled out for each.
            let is_refusal = (400..500).contains(&answer.status);
            assert!(described.is_object() || is_refusal, "{method} {target}: {} {said}", answer.status);
            answered += 1;
        }
    }
    assert_eq!(answered, 22);

    let cluster = ask(&world, 1, "GET", "/v1/cluster").json();
    assert_eq!(cluster["zones"].as_array().unwrap().len(), 3);
    assert_eq!(cluster["groups"].as_array().unwrap().len(), 5, "control and four more");
    assert!(cluster["slabs"]["counts"]["open"].is_u64(), "{cluster}");
    let drive = ask(&world, 1, "GET", "/v1/drives").json()[0].clone();
    let name = drive["drive"].as_str().unwrap();
    assert_eq!(ask(&world, 1, "GET", &format!("/v1/drives/{name}")).json()["drive"], name);
    assert_eq!(ask(&world, 1, "GET", "/v1/live").text(), "true");
    assert_eq!(ask(&world, 1, "GET", "/v1/ready").text(), "true");
    assert_eq!(ask(&world, 1, "HEAD", "/v1/ready").status, 200);
}

/// What must not change by a refusal: which jobs there are, how these are, and which began.
fn jobs(world: &World) -> Value {
    let all = ask(world, 1, "GET", "/v1/jobs").json();
    let all = all.as_array().unwrap().iter();
    let is_held = |job: &Value| job["state"] == "paused";
    all.map(|job| json!([job["id"], job["kind"], is_held(job), job["pace_bytes_per_second"]])).collect()
}

/// The standing job of a kind.
fn standing(world: &World, kind: &str) -> u64 {
    let all = ask(world, 1, "GET", "/v1/jobs").json();
    let job = all.as_array().unwrap().iter().find(|job| job["kind"] == kind && job["standing"] == true);
    job.unwrap()["id"].as_u64().unwrap()
}

#[tokio::test]
async fn bad_input_is_refused_with_the_field_and_what_was_expected_and_changes_nothing() {
    let world = World::start().await;
    let (before, sweep, seal) = (jobs(&world), standing(&world, "sweep"), standing(&world, "seal"));
    for (method, target, status, sort, field) in [
        ("GET", "/v1/jobs/4711", 404, "unknown-job", "id"),
        ("POST", "/v1/jobs/4711/pause", 404, "unknown-job", "id"),
        ("POST", "/v1/jobs/4711/cancel", 404, "unknown-job", "id"),
        ("GET", "/v1/jobs/first", 400, "bad-input", "id"),
        ("POST", "/v1/jobs/-1/resume", 400, "bad-input", "id"),
        ("POST", "/v1/jobs/18446744073709551616/resume", 400, "bad-input", "id"),
        ("GET", "/v1/jobs/%ff", 400, "bad-input", "id"),
        ("GET", "/v1/drives/0123", 404, "unknown-drive", "drive"),
        ("POST", &format!("/v1/jobs/{seal}/cancel"), 409, "not-possible", "id"),
        ("POST", "/v1/buckets/NotAName", 400, "bad-input", "name"),
        ("POST", "/v1/buckets/good?class=gold", 400, "bad-input", "class"),
        ("POST", "/v1/buckets/good?colour=gold", 400, "bad-input", "colour"),
        ("POST", &format!("/v1/buckets/{BUCKET}"), 409, "bucket-exists", "name"),
        ("GET", "/v1/events?follow=perhaps", 400, "bad-input", "follow"),
    ] {
        let problem = ask(&world, 1, method, target).problem(status, sort);
        assert_eq!(problem["field"], field, "{target}: {problem}");
    }
    let drive = "0123456789abcdef0123456789abcdef";
    let about_drive = |kind| format!(r#"{{"kind":"{kind}","drive":"{drive}"}}"#);
    let (repair_drive, scrub_drive) = (about_drive("repair"), about_drive("scrub"));
    let paces = format!("/v1/jobs/{sweep}/pace");
    for (target, body, status, sort, field, expected) in [
        ("/v1/jobs", r#"{"kind":"polish"}"#, 400, "bad-input", "kind", "seal"),
        ("/v1/jobs", r#"{"kind":"sweep"}"#, 400, "bad-input", "kind", "repair"),
        ("/v1/jobs", r#"{"kind":7}"#, 400, "bad-input", "kind", ""),
        ("/v1/jobs", r#"{"kind":"repair","dry_run":"yes"}"#, 400, "bad-input", "dry_run", "a boolean"),
        ("/v1/jobs", r#"{"kind":"repair","colour":"red"}"#, 400, "bad-input", "colour", "dry_run"),
        ("/v1/jobs", r#"{"kind":"repair","drive":"x"}"#, 400, "bad-input", "drive", "32 hexadecimal digits"),
        ("/v1/jobs", &repair_drive, 404, "unknown-drive", "drive", ""),
        ("/v1/jobs", &scrub_drive, 404, "unknown-drive", "drive", ""),
        ("/v1/jobs", "{}", 400, "bad-input", "kind", "a value"),
        ("/v1/jobs", "[]", 400, "bad-input", "body", ""),
        ("/v1/jobs", "", 400, "bad-input", "body", ""),
        ("/v1/jobs", r#"{"kind":"seal"#, 400, "bad-input", "kind", ""),
        ("/v1/jobs", r#"{"kind":"seal"} and more"#, 400, "bad-input", "body", ""),
        (&paces, r#"{"bytes_per_second":1}"#, 409, "not-possible", "id", ""),
        (&paces, r#"{"bytes_per_second":0}"#, 400, "bad-input", "bytes_per_second", "nonzero"),
        (&paces, r#"{"bytes_per_second":-1}"#, 400, "bad-input", "bytes_per_second", "nonzero"),
        ("/v1/jobs/4711/pace", r#"{"bytes_per_second":1}"#, 404, "unknown-job", "id", ""),
    ] {
        let problem = send(&world, 1, "POST", target, body).problem(status, sort);
        assert_eq!(problem["field"], field, "{target} {body}: {problem}");
        let said = problem["expected"].as_str().unwrap_or_default();
        assert!(said.contains(expected), "{target} {body}: {problem}");
    }
    assert_eq!(jobs(&world), before);
    assert!(!ask(&world, 1, "GET", "/v1/events?follow=false").text().contains("job_began"));
    put(&world.client(), "still", "here").await.unwrap();
    assert_eq!(get(&world.client(), "still").await.unwrap().unwrap(), "here");
    drive_lists_are_bounded(&world);
}

/// Readers of events never keep an order out.
fn drive_lists_are_bounded(world: &World) {
    let readers: Vec<Stream> = (0..EVENT_STREAMS_MAX).map(|_| Stream::follow(world, 1, None)).collect();
    ask(world, 1, "GET", "/v1/events").problem(503, "busy");
    assert_eq!(ask(world, 1, "GET", "/v1/status").status, 200);
    drop(readers);
}

#[tokio::test]
async fn what_is_no_request_for_this_path_is_refused_before_it_is_looked_into() {
    let world = World::start().await;
    let before = jobs(&world);
    let order = r#"{"kind":"seal"}"#;
    for content_type in ["", "text/plain", "application/x-www-form-urlencoded"] {
        let problem =
            send_as(&world, 1, content_type, "POST", "/v1/jobs", order).problem(415, "wrong-content-type");
        assert_eq!(problem["expected"], "application/json");
    }
    for (method, target, allowed) in [
        ("PUT", "/v1/jobs", &["GET", "HEAD", "POST"][..]),
        ("DELETE", "/v1/jobs/1", &["GET", "HEAD"]),
        ("POST", "/v1/status", &["GET", "HEAD"]),
        ("GET", "/v1/jobs/1/pause", &["POST"]),
        ("GET", "/v1/buckets/mail", &["POST"]),
    ] {
        let answer = ask(&world, 1, method, target);
        answer.problem(405, "wrong-method");
        let mut allow: Vec<&str> = answer.header("allow").unwrap().split(',').map(str::trim).collect();
        allow.sort_unstable();
        assert_eq!(allow, allowed, "{method} {target}");
    }
    for target in ["/", "/v1", "/v1/", "/v1/nothing", "/v1/jobs/", "/v1/jobs/1/polish", "/V1/status"] {
        ask(&world, 1, "GET", target).problem(404, "no-such-path");
    }

    let fits = format!("{order}{}", " ".repeat(CONTROL_BODY_LEN_BYTES_MAX - order.len()));
    assert_eq!(jobs(&world), before, "nothing was begun so far");
    too_large(send(&world, 1, "POST", "/v1/jobs", &format!("{fits} ")));
    too_large(send(&world, 1, "POST", "/v1/jobs/1/pause", &format!("{fits} ")));
    too_large(send(&world, 1, "POST", "/v1/jobs", &"x".repeat(4 << 20)));
    let head =
        "POST /v1/jobs HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let said = format!("{head}content-length: 1000000000000\r\n\r\n");
    too_large(raw(&world, 1, said.as_bytes()));
    let chunks =
        format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{fits} \r\n0\r\n\r\n", fits.len() + 1);
    too_large(raw(&world, 1, chunks.as_bytes()));
    assert_eq!(jobs(&world), before);
    // Just inside the bound it is an order like any other.
    assert_eq!(send(&world, 1, "POST", "/v1/jobs", &fits).status, 202);

    // What is not HTTP at all is answered, or cut off, and the socket goes on.
    let answer = raw(&world, 1, b"what is this\r\n\r\n");
    assert_eq!(answer.status, 400);
    let long = format!("GET /v1/status HTTP/1.1\r\nhost: node\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    assert_eq!(raw(&world, 1, long.as_bytes()).status, 431);
    assert_eq!(ask(&world, 1, "GET", "/v1/status").status, 200);
}

#[track_caller]
fn too_large(answer: Answer) {
    let problem = answer.problem(413, "too-large");
    assert!(problem["expected"].as_str().unwrap().contains(&CONTROL_BODY_LEN_BYTES_MAX.to_string()));
}
