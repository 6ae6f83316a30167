//! Metrics: that what is said is OpenMetrics text, and is called as it should be.

use super::socket::{Answer, answer, ask};
use super::support::{World, get, put, until};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};

/// One sample.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Parses OpenMetrics text as strictly as this test needs: every sample belongs to the family that was declared last, with the suffix of its type.
fn parse(text: &str) -> BTreeMap<String, (String, Vec<Sample>)> {
    let mut families: BTreeMap<String, (String, Vec<Sample>)> = BTreeMap::new();
    let (mut helped, mut family, mut ended) = (BTreeSet::new(), String::new(), false);
    for line in text.lines() {
        assert!(!ended, "{line:?} is behind the end");
        if line == "# EOF" {
            ended = true;
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(!help.is_empty());
            assert!(helped.insert(name.to_owned()), "{name} is declared twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, sort) = rest.split_once(' ').unwrap();
            assert!(helped.contains(name), "{name} has no help");
            family = name.to_owned();
            families.insert(family.clone(), (sort.to_owned(), Vec::new()));
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(name == family && name.ends_with(&format!("_{unit}")), "{line}");
        } else {
            let sample = sample(line);
            let (sort, samples) = families.get_mut(&family).expect("declared before");
            let suffix =
                sample.name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
            let fits = match sort.as_str() {
                "counter" => suffix == "_total",
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                "info" => suffix == "_info",
                "gauge" => suffix.is_empty(),
                other => panic!("{family}: {other}"),
            };
            assert!(fits, "{line} in a {sort}");
            samples.push(sample);
        }
    }
    assert!(ended, "no end");
    families
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) =
        series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
    let label = |label: &str| {
        let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), value.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned())
    };
    // No value that is told here has a comma in it.
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(label).collect();
    Sample { name: name.to_owned(), labels, value: value.parse().unwrap() }
}

fn check_histogram(family: &str, samples: &[Sample]) {
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le").expect("a bound").replace("+Inf", "inf").parse().unwrap();
        series.entry(labels).or_default().push((bound, sample.value));
    }
    assert!(!series.is_empty(), "{family} has no series");
    for (labels, buckets) in series {
        assert!(buckets.is_sorted_by(|one, two| one.0 < two.0 && one.1 <= two.1), "{family} {labels:?}");
        let (bound, all) = *buckets.last().unwrap();
        let count = samples.iter().find(|sample| sample.name.ends_with("_count") && sample.labels == labels);
        assert_eq!(
            (bound, Some(all)),
            (f64::INFINITY, count.map(|sample| sample.value)),
            "{family} {labels:?}"
        );
    }
}

/// What must be told, as what.
const FAMILIES: [(&str, &str); 44] = [
    ("strongroom_node", "info"),
    ("strongroom_ready", "gauge"),
    ("strongroom_alarms", "gauge"),
    ("strongroom_peers", "gauge"),
    ("strongroom_slabs", "gauge"),
    ("strongroom_slab_image_bytes", "gauge"),
    ("strongroom_slabs_by_margin", "gauge"),
    ("strongroom_slabs_dead", "gauge"),
    ("strongroom_slabs_compacting", "gauge"),
    ("strongroom_slab_alive_bytes", "gauge"),
    ("strongroom_slabs_deficit", "gauge"),
    ("strongroom_slabs_lost", "gauge"),
    ("strongroom_repairs_waiting", "gauge"),
    ("strongroom_fragments_to_free", "gauge"),
    ("strongroom_drive_space_bytes", "gauge"),
    ("strongroom_drive_fragments", "gauge"),
    ("strongroom_drive_writable", "gauge"),
    ("strongroom_drive_suspect", "gauge"),
    ("strongroom_drive_extents_unknown", "gauge"),
    ("strongroom_drives_failed", "gauge"),
    ("strongroom_scrub_verified_since_timestamp_seconds", "gauge"),
    ("strongroom_scrub_tour_began_timestamp_seconds", "gauge"),
    ("strongroom_scrub_tour_bytes", "gauge"),
    ("strongroom_scrub_tour_left_bytes", "gauge"),
    ("strongroom_scrub_tours", "counter"),
    ("strongroom_scrub_verified_bytes", "counter"),
    ("strongroom_scrub_fragments_damaged", "counter"),
    ("strongroom_scrub_blocks_corrupt", "counter"),
    ("strongroom_scrub_blocks_unreadable", "counter"),
    ("strongroom_scrub_fragments_passed_over", "counter"),
    ("strongroom_io_duration_seconds", "histogram"),
    ("strongroom_io_bytes", "counter"),
    ("strongroom_io_errors", "counter"),
    ("strongroom_raft_leader_known", "gauge"),
    ("strongroom_raft_leads", "gauge"),
    ("strongroom_raft_term", "gauge"),
    ("strongroom_raft_last_log_index", "gauge"),
    ("strongroom_raft_applied_index", "gauge"),
    ("strongroom_raft_snapshot_index", "gauge"),
    ("strongroom_jobs", "gauge"),
    ("strongroom_work_done", "counter"),
    ("strongroom_work_pace_limit_bytes_per_second", "gauge"),
    ("strongroom_s3_request_duration_seconds", "histogram"),
    ("strongroom_s3_requests", "counter"),
];

#[tokio::test]
async fn metrics_are_openmetrics_text_with_conventional_names_on_the_socket_and_over_tcp() {
    let mut world = World::start().await;
    let node = world.nodes()[0];
    let address = listen_over_tcp(&mut world, node).await;
    let client = world.client_at(node);
    put(&client, "counted", "x").await.unwrap();
    assert_eq!(get(&client, "counted").await.unwrap().unwrap(), "x");
    assert_eq!(get(&client, "absent").await.unwrap(), None);
    // It holds a copy of something, so its drive has something to tell.
    until("the drive has written a row", async || {
        put(&world.client(), "more", "x").await.map_err(|refused| refused.words)?;
        let text = ask(&world, node, "GET", "/v1/metrics").text().to_owned();
        if text.contains("class=\"append\",operation=\"write\"") { Ok(()) } else { Err(text) }
    })
    .await;

    let on_socket = ask(&world, node, "GET", "/v1/metrics");
    let over_tcp = get_over_tcp(address, "GET", "/metrics");
    for told in [&on_socket, &over_tcp] {
        assert_eq!(told.status, 200);
        let content_type = told.header("content-type").unwrap();
        assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let families = parse(told.text());
        let declared: BTreeSet<(&str, &str)> =
            families.iter().map(|(name, (sort, _))| (name.as_str(), sort.as_str())).collect();
        assert_eq!(declared, FAMILIES.into_iter().collect());
        for (name, (sort, samples)) in &families {
            if sort == "histogram" {
                check_histogram(name, samples);
            }
        }
        let value = |name: &str, labels: &[(&str, &str)]| {
            let family = families.values().flat_map(|(_, samples)| samples);
            let has = |sample: &&Sample| {
                sample.name == name
                    && labels
                        .iter()
                        .all(|(label, value)| sample.labels.get(*label).is_some_and(|known| known == value))
            };
            family.filter(has).map(|sample| sample.value).sum::<f64>()
        };
        assert_eq!(value("strongroom_ready", &[]), 1.0);
        // A drive that was new: everything on it was written since it was opened first.
        assert!(value("strongroom_scrub_verified_since_timestamp_seconds", &[]) > 1.0e9);
        assert_eq!(value("strongroom_peers", &[("state", "up")]), 5.0);
        assert_eq!(value("strongroom_node_info", &[("node", &node.to_string())]), 1.0);
        let of = |operation, status| {
            value("strongroom_s3_requests_total", &[("operation", operation), ("status", status)])
        };
        assert_eq!((of("GetObject", "2xx"), of("GetObject", "4xx")), (1.0, 1.0));
        assert!(of("PutObject", "2xx") >= 1.0);
        assert!(value("strongroom_io_bytes_total", &[("class", "append"), ("operation", "write")]) >= 4096.0);
        assert!(value("strongroom_drive_space_bytes", &[("state", "total")]) > 0.0);
    }
    for target in ["/live", "/ready"] {
        assert_eq!(get_over_tcp(address, "GET", target).text(), "true");
    }
    // Nothing that is told of or done to a node but these is there.
    get_over_tcp(address, "GET", "/v1/status").problem(404, "no-such-path");
    get_over_tcp(address, "POST", "/v1/jobs").problem(404, "no-such-path");
    get_over_tcp(address, "POST", "/metrics").problem(405, "wrong-method");
}

/// Starts a node again with a port for metrics.
async fn listen_over_tcp(world: &mut World, node: u64) -> SocketAddr {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = world.cluster.processes.node_dir(node).join("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nstate_dir"));
    world.kill(&[node]);
    let listen = format!("\nmetrics_listen = \"{address}\"\nstate_dir");
    std::fs::write(&file, text.replacen("\nstate_dir", &listen, 1)).unwrap();
    world.revive(node).await;
    world.caught_up().await;
    address
}

fn get_over_tcp(address: SocketAddr, method: &str, target: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    answer(stream)
}
