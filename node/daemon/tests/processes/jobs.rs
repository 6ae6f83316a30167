//! Jobs over the control socket and by command: what an operator can do to them, and when a repair says that it is done.

use super::socket::{Stream, ask, path, send};
use super::support::{World, get, put, strongroom, strongroom_unread, until};
use serde_json::{Value, json};
use std::path::Path;
use strongroom::cli::EXIT_UNREAD;
use strongroom::demo::watch;

pub const OBJECTS: u64 = 12;
const OBJECT_LEN_BYTES: usize = 200_000;

pub fn body(index: u64) -> Vec<u8> {
    (0..OBJECT_LEN_BYTES as u64).map(|at| (at * 31 + index * 7 + at / 251) as u8).collect()
}

pub async fn store(world: &World) {
    for index in 0..OBJECTS {
        put(&world.client(), &format!("object/{index}"), body(index)).await.unwrap();
    }
    watch::make_cold(&world.cluster, OBJECTS * OBJECT_LEN_BYTES as u64).await.unwrap();
}

async fn all_there(world: &World) {
    for index in 0..OBJECTS {
        let found = get(&world.client(), &format!("object/{index}")).await.unwrap().unwrap();
        assert!(found == body(index), "object {index} differs");
    }
}

fn control(world: &World, node: u64) -> String {
    path(world, node).to_str().unwrap().to_owned()
}

/// The program as an operator runs it, with the node's socket.
pub fn command(world: &World, node: u64, args: &[&str]) -> super::support::Ran {
    strongroom(&[args, &["--control", &control(world, node)]].concat(), world.scratch())
}

/// What a command prints with `--json`.
pub fn told(world: &World, node: u64, args: &[&str]) -> Value {
    let ran = command(world, node, &[args, &["--json"]].concat());
    ran.succeeded();
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

pub async fn state(world: &World, node: u64, job: u64, wanted: &str) -> Value {
    let mut last = Value::Null;
    until(&format!("job {job} is {wanted}"), async || {
        last = ask(world, node, "GET", &format!("/v1/jobs/{job}")).json();
        if last["state"] == wanted { Ok(()) } else { Err(last.to_string()) }
    })
    .await;
    last
}

#[tokio::test]
async fn a_repair_is_done_only_once_nothing_lacks_a_fragment_and_leaves_a_report() {
    let mut world = World::start().await;
    store(&world).await;
    let nodes = world.nodes();
    let (lost, asked) = (nodes[0], nodes[1]);

    // Where nothing is lost it ends at the first look, whoever is asked, and says what it has looked at.
    let would = told(&world, asked, &["repair", "--dry-run"]);
    assert_eq!((&would["slabs"], &would["fragments"]), (&json!(0), &json!(0)), "{would}");
    let whole = told(&world, asked, &["repair", "--wait"]);
    let report = &whole["report"];
    assert_eq!((&whole["state"], &report["slabs_below_last"]), (&json!("done"), &json!(0)), "{whole}");
    assert_eq!(report["fragments_made_again"], 0);
    assert!(report["margins_last"]["zone_plus_one"].as_u64().unwrap() > 0, "{report}");

    // A node is away: what it holds may come back, so the run waits, and says for whom.
    world.kill(&[lost]);
    let begun = told(&world, asked, &["repair"]);
    let job = begun["id"].as_u64().unwrap();
    until("the run waits for the node that is away", async || {
        let waiting = ask(&world, asked, "GET", &format!("/v1/jobs/{job}")).json();
        let reason = waiting["reason"].as_str().unwrap_or_default();
        let says_so = reason.contains("away with") && reason.contains(&format!("node-{lost}:"));
        if says_so && waiting["state"] == "waiting" { Ok(()) } else { Err(waiting.to_string()) }
    })
    .await;

    // A second one beside it is refused, dry or not, and changes nothing.
    let known = ids(&world, asked);
    for order in [r#"{"kind":"repair"}"#, r#"{"kind":"repair","dry_run":true}"#] {
        let problem = send(&world, asked, "POST", "/v1/jobs", order).problem(409, "conflict");
        assert!(problem["detail"].as_str().unwrap().contains(&format!("job {job}")), "{problem}");
    }
    command(&world, asked, &["repair"])
        .refused_with(1, &["conflicting job", "wait for its end, or cancel it"]);
    assert_eq!(ids(&world, asked), known);

    // It is paused, goes on, and is cancelled; then it has ended for good.
    let order = |verb: &str| ask(&world, asked, "POST", &format!("/v1/jobs/{job}/{verb}"));
    assert_eq!(order("pause").json()["state"], "paused");
    assert_eq!(order("resume").json()["state"], "waiting");
    let pace = send(&world, asked, "POST", &format!("/v1/jobs/{job}/pace"), r#"{"bytes_per_second":1}"#);
    let problem = pace.problem(409, "not-possible");
    assert!(problem["detail"].as_str().unwrap().contains("standing jobs"), "{problem}");
    assert_eq!(order("cancel").status, 202);
    state(&world, asked, job, "cancelled").await;
    order("pause").problem(409, "not-possible");
    command(&world, asked, &["jobs", "follow", &job.to_string()]).refused_with(1, &["was cancelled"]);

    // The node comes back with a blank drive: everything that it held is made again, and only then the run is done.
    let drive = world.cluster.processes.node_dir(lost).join("drive-0.img");
    let cluster = world.cluster.processes.plan().cluster.clone();
    let format = ["drive", "format", "--cluster", &cluster, "--extent-len", "1048576", "--force", "--quiet"];
    strongroom(&[&format[..], &[drive.to_str().unwrap()]].concat(), Path::new("/")).succeeded();
    let begun = told(&world, asked, &["repair"])["id"].as_u64().unwrap();
    world.revive(lost).await;
    let done = state(&world, asked, begun, "done").await;
    let report = &done["report"];
    assert!(report["slabs_below_first"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["slabs_below_last"], 0);
    let made = report["fragments_made_again"].as_u64().unwrap();
    assert!(made > 0, "{report}");
    assert_eq!(done["progress"]["done"], done["progress"]["total"]);
    assert_eq!(report["margins_last"], whole["report"]["margins_last"], "as it was before");
    let shown = command(&world, asked, &["jobs", "show", &begun.to_string()]);
    shown.succeeded();
    assert!(shown.out.contains(&format!("fragments made again {made}")), "{}", shown.out);
    // Without that drive the margin is there: another zone may go.
    world.kill(&world.cluster.nodes_of(2));
    all_there(&world).await;
}

fn ids(world: &World, node: u64) -> Vec<Value> {
    let all = ask(world, node, "GET", "/v1/jobs").json();
    all.as_array().unwrap().iter().map(|job| job["id"].clone()).collect()
}

#[tokio::test]
async fn a_paused_worker_does_nothing_until_it_is_resumed_and_events_tell_the_rest() {
    let world = World::start().await;
    let nodes = world.nodes();
    // No node seals: what is rolled stays as it is.
    let mut workers = Vec::new();
    for node in &nodes {
        let jobs = told(&world, *node, &["jobs"]);
        let seal = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "seal").unwrap();
        let id = seal["id"].as_u64().unwrap();
        assert_eq!(told(&world, *node, &["jobs", "pause", &id.to_string()])["state"], "paused");
        workers.push((*node, id));
    }
    put(&world.client_at(nodes[0]), "held", body(1)).await.unwrap();
    let mut stream = Stream::follow(&world, nodes[0], None);
    let would = told_start(&world, nodes[0], r#"{"kind":"seal","dry_run":true}"#, 200);
    assert_eq!(would["slabs"], 1, "{would}");
    let run = told_start(&world, nodes[0], r#"{"kind":"seal"}"#, 202)["id"].as_u64().unwrap();
    let began = stream.next_of("job_began");
    assert_eq!((&began.data["job"], &began.data["kind"]), (&json!(run), &json!("seal")));
    until("the slab is being sealed", async || {
        let counts = ask(&world, nodes[0], "GET", "/v1/cluster").json()["slabs"]["counts"].clone();
        if counts["sealing"] == 1 { Ok(()) } else { Err(counts.to_string()) }
    })
    .await;
    let held = ask(&world, nodes[0], "GET", &format!("/v1/jobs/{run}")).json();
    assert_eq!((&held["state"], &held["progress"]["done"]), (&json!("running"), &json!(0)), "{held}");

    for (node, id) in &workers {
        assert_ne!(told(&world, *node, &["jobs", "resume", &id.to_string()])["state"], "paused");
    }
    state(&world, nodes[0], run, "done").await;
    let ended = stream.next_of("job_ended");
    assert_eq!((&ended.data["job"], &ended.data["how"]), (&json!(run), &json!("done")));

    // Who comes back goes on behind what was seen; one that saw another run of the node begins anew.
    let mut again = Stream::follow(&world, nodes[0], Some(&began.id));
    let next = again.next();
    let number = |id: &str| id.split_once('-').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(number(&next.id), number(&began.id) + 1);
    // Whether something was told in between is chance.
    let last = if next.kind == "job_ended" { next } else { again.next_of("job_ended") };
    assert_eq!(last.id, ended.id);
    assert_eq!(number(&Stream::follow(&world, nodes[0], Some("1-999")).next().id), 1);
    let kept = command(&world, nodes[0], &["events"]);
    kept.succeeded();
    assert!(kept.out.contains("job_ended") && kept.out.contains("seal done"), "{}", kept.out);

    // A conversion has a pace, which is told and taken back.
    let convert = told(&world, nodes[0], &["jobs"]);
    let convert = convert.as_array().unwrap().iter().find(|job| job["kind"] == "convert").unwrap();
    let id = convert["id"].as_u64().unwrap().to_string();
    let paced = told(&world, nodes[0], &["jobs", "pace", &id, "50MiB"]);
    assert_eq!(paced["pace_bytes_per_second"], 50 << 20);
    assert_eq!(told(&world, nodes[0], &["jobs", "pace", &id, "none"])["pace_bytes_per_second"], Value::Null);
    commands_for_people(&world, nodes[0]);
}

pub fn told_start(world: &World, node: u64, order: &str, status: u16) -> Value {
    let answer = send(world, node, "POST", "/v1/jobs", order);
    assert_eq!(answer.status, status, "{}", answer.text());
    let json = answer.json();
    if status == 202 {
        assert_eq!(answer.header("location"), Some(&*format!("/v1/jobs/{}", json["id"])));
    }
    json
}

/// What people are shown names what they look for; what cannot be done says what to do.
fn commands_for_people(world: &World, node: u64) {
    for (args, parts) in [
        (&["status"][..], &["ready", "jobs: "][..]),
        (&["cluster"], &["zone 1", "node 1  up", "leader node", "slabs at "]),
        (&["jobs"], &["standing  seal", "standing  repair", "run       seal"]),
        (&["repair", "--dry-run"], &["0 slabs lack fragments"]),
    ] {
        let ran = command(world, node, args);
        ran.succeeded();
        for part in parts {
            assert!(ran.out.contains(part), "{args:?}: {part:?} is not in {}", ran.out);
        }
    }
    let unread = strongroom_unread(&["cluster", "--control", &control(world, node)], world.scratch());
    assert_eq!((unread.code, &*unread.err), (Some(EXIT_UNREAD.into()), ""), "`strongroom cluster | head`");
    command(world, node, &["jobs", "show", "4711"]).refused_with(1, &["unknown job", "lists them"]);
    let nobody = strongroom(&["status", "--control", "nowhere.sock"], world.scratch());
    nobody.refused_with(1, &["nowhere.sock", "is the node running?", "--control"]);
    strongroom(&["jobs", "pace", "1", "fast"], world.scratch())
        .refused_with(2, &["KiB, MiB or GiB, or none"]);
}
