//! S3 over HTTP against the running cluster: what is refused, by which code, and that nothing of it is visible.

use super::support::{BUCKET, Refused, World, get, put, refused, strongroom};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use strongroom_types::limits::{
    CONFIG_VERSIONS_MAX, NEEDLE_PLAIN_LEN_BYTES_MAX, OBJECT_KEY_LEN_BYTES_MAX, OBJECT_LEN_BYTES_MAX,
};

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Refused>, status: u16, code: &str) {
    let refused = answer.expect_err("must be refused");
    assert_eq!((refused.status, refused.code.as_str()), (Some(status), code), "{}", refused.words);
}

fn garbage(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

#[tokio::test]
async fn bad_requests_get_the_codes_of_s3_and_leave_nothing_behind() {
    let world = World::start().await;
    let client = world.client();
    let plan = world.cluster.processes.plan().clone();
    let stranger = world.client_with(&world.cluster.endpoint(), &plan.access_key, "not the secret key");
    assert_refused(put(&stranger, "stranger", "x").await, 403, "SignatureDoesNotMatch");
    let unknown = world.client_with(&world.cluster.endpoint(), "NOBODY", &plan.secret_key);
    assert_refused(put(&unknown, "stranger", "x").await, 403, "InvalidAccessKeyId");
    assert_eq!(get(&client, "stranger").await.unwrap(), None);

    let digest = client
        .put_object()
        .bucket(BUCKET)
        .key("digest")
        .content_md5("AAAAAAAAAAAAAAAAAAAAAA==")
        .body(ByteStream::from_static(b"has another digest"))
        .send()
        .await;
    assert_refused(digest.map_err(refused), 400, "BadDigest");
    assert_eq!(get(&client, "digest").await.unwrap(), None, "refused is not visible");

    let longest = "k".repeat(OBJECT_KEY_LEN_BYTES_MAX);
    put(&client, &longest, "fits").await.unwrap();
    assert_eq!(get(&client, &longest).await.unwrap().as_deref(), Some(&b"fits"[..]));
    assert_refused(put(&client, &format!("{longest}k"), "x").await, 400, "KeyTooLongError");

    let absent = client.get_object().bucket("no-such-bucket").key("k").send().await;
    assert_refused(absent.map_err(refused), 404, "NoSuchBucket");
    let absent = client.put_object().bucket("no-such-bucket").key("k").send().await;
    assert_refused(absent.map_err(refused), 404, "NoSuchBucket");
    let absent = client.get_object().bucket(BUCKET).key("absent").send().await;
    assert_refused(absent.map_err(refused), 404, "NoSuchKey");
    let absent = client.head_object().bucket(BUCKET).key("absent").send().await;
    assert_eq!(absent.map_err(refused).unwrap_err().status, Some(404));
    let bad_name = client.create_bucket().bucket("Not_A_Bucket").send().await;
    assert_refused(bad_name.map_err(refused), 400, "InvalidBucketName");
    let range = client.get_object().bucket(BUCKET).key(&longest).range("bytes=4-9").send().await;
    assert_refused(range.map_err(refused), 416, "InvalidRange");
    let held = client.delete_bucket().bucket(BUCKET).send().await;
    assert_refused(held.map_err(refused), 409, "BucketNotEmpty");
}

#[tokio::test]
async fn of_conditional_puts_at_once_through_all_nodes_one_wins() {
    let world = World::start().await;
    let clients: Vec<_> = world.nodes().into_iter().map(|node| (node, world.client_at(node))).collect();
    let mut etags = Vec::new();
    for round in 0..5 {
        let key = format!("contested/{round}");
        let outcomes = join_all(clients.iter().map(|(node, client)| {
            let body = ByteStream::from(Bytes::from(format!("from node {node}")));
            client.put_object().bucket(BUCKET).key(&key).if_none_match("*").body(body).send()
        }))
        .await;
        let mut winner = None;
        for ((node, _), outcome) in clients.iter().zip(outcomes) {
            match outcome {
                Ok(answer) => {
                    assert_eq!(winner, None, "two were told that they were first");
                    winner = Some(*node);
                    etags.push(answer.e_tag().unwrap().to_owned());
                }
                Err(error) => assert_refused(Err::<(), _>(refused(error)), 412, "PreconditionFailed"),
            }
        }
        let expected = format!("from node {}", winner.expect("one was first"));
        for (_, client) in &clients {
            assert_eq!(get(client, &key).await.unwrap().as_deref(), Some(expected.as_bytes()));
        }
    }
    // If-Match: the tag of another object does not fit, its own does, and then no longer.
    let client = &clients[0].1;
    let replace = |etag: &str, body: &'static [u8]| {
        let body = ByteStream::from_static(body);
        client.put_object().bucket(BUCKET).key("contested/0").if_match(etag).body(body).send()
    };
    let nobodys = "\"00000000000000000000000000000000\"";
    assert_refused(replace(nobodys, b"x").await.map_err(refused), 412, "PreconditionFailed");
    replace(&etags[0], b"replaced").await.unwrap();
    assert_refused(replace(&etags[0], b"late").await.map_err(refused), 412, "PreconditionFailed");
    assert_eq!(get(client, "contested/0").await.unwrap().as_deref(), Some(&b"replaced"[..]));
}

/// Writes `head` and `body` on a connection of its own and gives what comes back until the server closes or a whole answer's end is there.
fn raw(address: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains("</Error>") {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => answer.extend_from_slice(&buffer[..len]),
            Err(error) => panic!("no answer: {error}; so far {}", String::from_utf8_lossy(&answer)),
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_body_that_is_declared_too_long_is_refused_at_once_and_one_that_breaks_off_is_not_visible() {
    let world = World::start().await;
    let client = world.client();
    let address = world.address_of(1);
    let signed = async |key: &str| {
        let expires = PresigningConfig::expires_in(Duration::from_secs(600)).unwrap();
        let request =
            world.client_at(1).put_object().bucket(BUCKET).key(key).presigned(expires).await.unwrap();
        let target = request.uri().split_once(&address.to_string()).expect("the node's address").1.to_owned();
        let headers: String = request.headers().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        move |len_bytes: u64| {
            format!(
                "PUT {target} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {len_bytes}\r\n\r\n"
            )
        }
    };
    // As most clients do with a long body: it is sent once the server says that it wants it.
    let waiting = "\r\nexpect: 100-continue\r\n\r\n";
    let head = signed("too-long").await(OBJECT_LEN_BYTES_MAX + 1).replacen("\r\n\r\n", waiting, 1);
    let answer = tokio::task::spawn_blocking(move || raw(address, &head, b"")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("<Code>EntityTooLarge</Code>"), "{answer}");

    // The longest that may be declared is begun; the client goes away after the first megabyte.
    let head = signed("broken-off").await(OBJECT_LEN_BYTES_MAX);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&garbage(1, 1 << 20)).unwrap();
    drop(stream);
    for key in ["too-long", "broken-off"] {
        assert_eq!(get(&client, key).await.unwrap(), None, "{key}");
    }
    // The same request, whole, is taken: it was the length that was refused.
    let head = signed("whole").await(5);
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("{head}whole").as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    })
    .await
    .unwrap();
    assert_eq!(get(&client, "whole").await.unwrap().as_deref(), Some(&b"whole"[..]));
}

#[tokio::test]
async fn config_values_keep_their_versions_small_and_large() {
    const SETTINGS: &str = "settings";
    let world = World::start().await;
    let client = world.client();
    let folder = world.cluster.processes.node_dir(4);
    let made = strongroom(&["bucket", "create", SETTINGS, "--class", "config"], &folder);
    made.succeeded();
    assert_eq!(made.out, "bucket settings (config)\n");
    strongroom(&["bucket", "create", SETTINGS, "--class", "config"], &folder).refused_with(1, &["exists"]);
    strongroom(&["bucket", "create", SETTINGS], &folder).refused_with(1, &["exists", "another class"]);

    // Above 64 KiB a value is kept in needles, up to there in consensus.
    let value = |index: usize| match index % 3 {
        0 => Bytes::from(format!("value {index}")),
        1 => garbage(index as u64, 64 << 10),
        _ => garbage(index as u64, 200 << 10),
    };
    let mut versions: Vec<String> = Vec::new();
    for index in 0..=CONFIG_VERSIONS_MAX {
        let body = ByteStream::from(value(index));
        let answer = client.put_object().bucket(SETTINGS).key("quota").body(body).send().await.unwrap();
        versions.push(answer.version_id().expect("versions of config are told").to_owned());
    }
    let read = async |version: &str| {
        let answer = client.get_object().bucket(SETTINGS).key("quota").version_id(version).send().await;
        match answer {
            Ok(answer) => Ok(answer.body.collect().await.unwrap().into_bytes()),
            Err(error) => Err(refused(error)),
        }
    };
    for (index, version) in versions.iter().enumerate().skip(1) {
        assert_eq!(read(version).await.unwrap(), value(index), "version {index}");
    }
    assert_refused(read(&versions[0]).await, 404, "NoSuchVersion");
    let world = world.restarted().await;
    let current = world.client().get_object().bucket(SETTINGS).key("quota").send().await.unwrap();
    assert_eq!(current.version_id(), versions.last().map(String::as_str));
    let bytes = current.body.collect().await.unwrap().into_bytes();
    assert_eq!(bytes, value(CONFIG_VERSIONS_MAX));
}

#[tokio::test]
async fn a_large_object_streams_in_and_its_ranges_come_back_over_needle_borders() {
    const LEN: usize = 64 << 20;
    let needle = NEEDLE_PLAIN_LEN_BYTES_MAX as usize;
    let world = World::start().await;
    let bytes = garbage(3, LEN);
    let path = world.scratch().join("large");
    std::fs::write(&path, &bytes).unwrap();
    let before = memory(&world);
    let body = ByteStream::from_path(&path).await.unwrap();
    world.client_at(1).put_object().bucket(BUCKET).key("large").body(body).send().await.unwrap();
    let ranges = [
        0..1,
        needle - 1..needle + 1,
        needle..needle + 1,
        5 * needle - 70_000..7 * needle + 3,
        64 * 1024 - 1..64 * 1024 + 1,
        LEN - 1..LEN,
        LEN - needle - 5..LEN,
    ];
    for node in world.nodes() {
        let client = world.client_at(node);
        for range in ranges.clone() {
            let header = format!("bytes={}-{}", range.start, range.end - 1);
            let answer = client.get_object().bucket(BUCKET).key("large").range(&header).send().await.unwrap();
            let told = format!("bytes {}-{}/{LEN}", range.start, range.end - 1);
            assert_eq!(answer.content_range(), Some(told.as_str()));
            let found = answer.body.collect().await.unwrap().into_bytes();
            assert!(found == bytes[range.clone()], "node {node}, {header}");
        }
    }
    let whole = get(&world.client_at(2), "large").await.unwrap().expect("it is there");
    assert!(whole == bytes, "the whole object");
    let world_memory = memory(&world);
    println!("KiB of memory at most per node: {before:?} before, {world_memory:?} after 64 MiB in and out");
}

/// `VmHWM` of each node, in KiB.
fn memory(world: &World) -> Vec<u64> {
    let of = |node: u64| {
        let pid = world.cluster.processes.pid(node).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
        line.trim_end_matches(" kB").parse().unwrap()
    };
    world.nodes().into_iter().map(of).collect()
}
