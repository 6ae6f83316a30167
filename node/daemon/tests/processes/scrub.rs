//! A scrub that is asked for: that it verifies what was there, finds what rotted, and that a repair then makes it whole.

use super::jobs::{command, state, store, told, told_start};
use super::rot::{fullest, rot};
use super::socket::{Stream, ask, send};
use super::support::{World, until};
use serde_json::{Value, json};

/// Blocks that are overwritten.
const ROTTEN: usize = 24;

fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

fn drive(world: &World, node: u64) -> Value {
    ask(world, node, "GET", "/v1/drives").json()[0].clone()
}

fn verified_since(world: &World, node: u64) -> u64 {
    drive(world, node)["scrub"]["verified_since_unix_ms"].as_u64().expect("it is verified")
}

#[tokio::test]
async fn a_scrub_finds_what_rotted_tells_the_table_and_a_repair_makes_it_whole() {
    let world = World::start().await;
    store(&world).await;
    let node = fullest(&world).await;
    let new = verified_since(&world, node);

    // Where nothing rotted everything is read and nothing found, and that much may be said from then on.
    let would = told(&world, node, &["scrub", "--now", "--dry-run"]);
    assert!(count(&would, "bytes") > 0 && count(&would, "fragments") > 0, "{would}");
    let whole = told(&world, node, &["scrub", "--now", "--wait"]);
    let report = &whole["report"];
    assert_eq!((&whole["state"], count(report, "drives")), (&json!("done"), 1), "{whole}");
    assert!(count(report, "bytes") > 0 && count(report, "fragments") > 0, "{report}");
    assert_eq!((count(report, "fragments_bad"), count(report, "fragments_passed_over")), (0, 0));
    let first = verified_since(&world, node);
    assert!(first > new, "{first} {new}");
    let margins = told(&world, node, &["repair", "--wait"])["report"]["margins_last"].clone();

    let mut stream = Stream::follow(&world, node, None);
    rot(&world.cluster.processes.drive_path(node), 3, ROTTEN);
    let name = drive(&world, node)["drive"].as_str().unwrap().to_owned();
    let found = told(&world, node, &["scrub", "--now", "--wait", "--drive", &name]);
    let report = &found["report"];
    assert_eq!((&found["state"], &found["subject"]["drive"]), (&json!("done"), &json!(name)), "{found}");
    let bad = count(report, "fragments_bad");
    assert!(bad > 0 && count(report, "blocks_corrupt") >= bad, "{report}");
    let known = ["fragments_told", "fragments_told_at_seal", "fragments_whole_again"];
    assert_eq!(known.iter().map(|name| count(report, name)).sum::<u64>(), bad, "{report}");
    assert_eq!(stream.next_of("fragment_damaged").data["drive"], name);
    assert!(verified_since(&world, node) > first);
    let metrics = ask(&world, node, "GET", "/v1/metrics").text().to_owned();
    let told_bad = format!("strongroom_scrub_fragments_damaged_total{{drive=\"{name}\"}} {bad}\n");
    assert!(metrics.contains(&told_bad), "{metrics}");
    let shown = command(&world, node, &["scrub"]);
    shown.succeeded();
    assert!(shown.out.contains("every byte verified since"), "{}", shown.out);

    // The table knows of all of it, so a repair does not end before it is whole.
    let repaired = told(&world, node, &["repair", "--wait"]);
    assert_eq!(repaired["report"]["margins_last"], margins, "{repaired}");
    // What it stands in for is bad as long as it is there: until it is given back, after its time of grace.
    until("nothing bad is left on the drive", async || {
        let again = told(&world, node, &["scrub", "--now", "--wait"]);
        match count(&again["report"], "fragments_bad") {
            0 => Ok(()),
            _ => Err(again.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_scrub_that_is_held_waits_says_why_and_is_cancelled() {
    let world = World::start().await;
    store(&world).await;
    let node = fullest(&world).await;
    let jobs = told(&world, node, &["jobs"]);
    let standing = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "scrub").unwrap();
    let standing = standing["id"].as_u64().unwrap();
    let order = |job: u64, verb: &str| ask(&world, node, "POST", &format!("/v1/jobs/{job}/{verb}"));
    assert_eq!(order(standing, "pause").json()["state"], "paused");

    // Held by the drive's own job.
    let run = told_start(&world, node, r#"{"kind":"scrub"}"#, 202)["id"].as_u64().unwrap();
    let waiting = state(&world, node, run, "waiting").await;
    assert!(waiting["reason"].as_str().unwrap().contains("standing job is paused"), "{waiting}");
    let name = drive(&world, node)["drive"].as_str().unwrap().to_owned();
    // One drive is part of all of them.
    for asked in [r#"{"kind":"scrub"}"#, &format!(r#"{{"kind":"scrub","drive":"{name}"}}"#)] {
        send(&world, node, "POST", "/v1/jobs", asked).problem(409, "conflict");
    }
    assert_eq!(order(run, "cancel").status, 202);
    state(&world, node, run, "cancelled").await;

    // Held by the run itself, which has a pace as well.
    let run = told_start(&world, node, r#"{"kind":"scrub"}"#, 202)["id"].as_u64().unwrap();
    assert_eq!(order(run, "pause").json()["state"], "paused");
    let paced =
        send(&world, node, "POST", &format!("/v1/jobs/{run}/pace"), r#"{"bytes_per_second":1000000000}"#);
    assert_eq!(paced.json()["pace_bytes_per_second"], 1_000_000_000);
    assert_ne!(order(standing, "resume").json()["state"], "paused");
    assert_eq!(told(&world, node, &["jobs", "show", &run.to_string()])["state"], "paused");
    assert_ne!(order(run, "resume").json()["state"], "paused");
    let done = state(&world, node, run, "done").await;
    assert_eq!(done["report"]["fragments_bad"], 0, "{done}");
    assert_eq!(done["progress"]["done"], done["progress"]["total"], "{done}");
}
