use super::*;
use crate::limits::{XML_BODIES_MAX, XML_LEN_BYTES_MAX};
use crate::store::StoreError;
use crate::testing::client::answer;
use bytes::Bytes;
use futures::{FutureExt as _, stream};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use std::convert::Infallible;

#[tokio::test]
async fn every_answer_has_a_request_id_and_is_recorded() {
    let world = World::with_buckets().await;
    world.send("PUT", "/mail/k", &[], b"x").await;
    let mut ids = Vec::new();
    for (method, target) in [
        ("GET", "/mail/k"),
        ("HEAD", "/mail/k"),
        ("GET", "/mail/absent"),
        ("HEAD", "/mail/absent"),
        ("GET", "/mail?nonsense"),
    ] {
        let answer = world.send(method, target, &[], b"").await;
        let id = answer.header("x-amz-request-id").to_owned();
        assert_eq!(id.len(), 16);
        assert!(!answer.header("date").is_empty());
        if answer.status.is_client_error() || answer.status.is_server_error() {
            if method == "HEAD" {
                assert!(answer.body.is_empty());
            } else {
                let root = answer.xml();
                assert_eq!(root.child_text("RequestId"), Some(id.as_str()));
                assert_eq!(root.child_text("Resource"), target.split('?').next());
                assert!(!root.child_text("Message").unwrap().is_empty());
            }
        }
        ids.push(id);
    }
    let anonymous =
        answer(&world.door, http::Request::get("/mail/k").body(Full::new(Bytes::new())).unwrap()).await;
    assert_eq!((anonymous.status, anonymous.code().as_str()), (StatusCode::FORBIDDEN, "AccessDenied"));
    ids.push(anonymous.header("x-amz-request-id").to_owned());
    let records = world.records.0.lock().unwrap();
    let recorded: Vec<_> = records.iter().rev().take(6).rev().collect();
    assert_eq!(recorded.iter().map(|record| record.request_id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(recorded[0].operation, Some("GetObject"));
    assert_eq!(recorded[0].caller.as_ref().unwrap().access_key, "KEY");
    assert_eq!(recorded[5].caller, None);
    assert_eq!(recorded[5].code, Some(crate::error::ErrorCode::AccessDenied));
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
}

#[tokio::test]
async fn nothing_happens_without_a_right_signature() {
    let world = World::with_buckets().await;
    world.send("PUT", "/mail/k", &[], b"x").await;
    let mut other = world.client.clone();
    other.secret = crate::Secret::new("another");
    for (method, target) in
        [("GET", "/mail/k"), ("PUT", "/mail/l"), ("DELETE", "/mail/k"), ("GET", "/"), ("GET", "/?nonsense")]
    {
        for sign in [Sign::Sha256, Sign::Presigned(60)] {
            let answer = other.send(&world.door, sign, method, target, &[], b"").await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::FORBIDDEN, "SignatureDoesNotMatch")
            );
        }
        let request =
            http::Request::builder().method(method).uri(target).body(Full::new(Bytes::new())).unwrap();
        assert_eq!(answer(&world.door, request).await.code(), "AccessDenied");
    }
    assert_eq!(world.read("/mail/k").await, Some(b"x".to_vec()));
    assert_eq!(world.read("/mail/l").await, None);
}

#[tokio::test]
async fn faults_of_the_store_have_the_codes_of_s3() {
    let world = World::with_buckets().await;
    let damaged = StoreError::Damaged { reason: "test".to_owned() };
    let unavailable = StoreError::Unavailable { reason: "test".to_owned() };
    for (fault, status, code) in [
        (StoreError::Busy, 503, "SlowDown"),
        (unavailable, 503, "ServiceUnavailable"),
        (StoreError::Full, 503, "ServiceUnavailable"),
        (damaged, 500, "InternalError"),
        (StoreError::TooLarge { len_bytes_max: 1 }, 400, "EntityTooLarge"),
        (StoreError::NoSuchKey, 404, "NoSuchKey"),
    ] {
        world.store.fail(Some(fault));
        for method in ["GET", "PUT"] {
            let answer = world.send(method, "/mail/k", &[], b"").await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code));
            assert_eq!(answer.header("retry-after"), if status == 503 { "1" } else { "" });
        }
        world.store.fail(None);
    }
}

#[tokio::test]
async fn objects_are_deleted_by_the_list() {
    let world = World::with_buckets().await;
    let document = |keys: &[&str], quiet: &str| {
        let objects: String = keys.iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
        format!("<Delete>{quiet}{objects}</Delete>")
    };
    let names = |answer: &Answer, element: &str| -> Vec<String> {
        let root = answer.xml();
        let named = root.children.iter().filter(|child| child.name == element);
        named.map(|child| child.child_text("Key").unwrap().to_owned()).collect()
    };
    for key in ["a", "b&c", "d"] {
        world.send("PUT", &format!("/mail/{}", key.replace('&', "%26")), &[], b"x").await;
    }
    let long = "k".repeat(1025);
    let answer = world
        .send("POST", "/mail?delete", &[], document(&["a", "b&amp;c", "absent", &long], "").as_bytes())
        .await;
    assert_eq!(names(&answer, "Deleted"), ["a", "b&c", "absent"]);
    assert_eq!(names(&answer, "Error"), [long.as_str()]);
    assert_eq!(world.read("/mail/a").await, None);
    assert_eq!(world.read("/mail/b%26c").await, None);
    assert_eq!(world.read("/mail/d").await, Some(b"x".to_vec()));
    let cdata = b"<Delete><Quiet>true</Quiet><Object><Key><![CDATA[d]]></Key></Object></Delete>";
    let answer = world.send("POST", "/mail?delete", &[], cdata).await;
    assert_eq!((names(&answer, "Deleted").len(), world.read("/mail/d").await), (0, None));

    let many = |count: usize| document(&vec!["k"; count], "");
    assert_eq!(world.send("POST", "/mail?delete", &[], many(1000).as_bytes()).await.status, StatusCode::OK);
    for bad in [
        many(1001),
        many(0),
        "<Delete><Object/></Delete>".to_owned(),
        "<Other/>".to_owned(),
        String::new(),
        "<Delete><Nonsense/><Object><Key>k</Key></Object></Delete>".to_owned(),
    ] {
        assert_eq!(
            world.send("POST", "/mail?delete", &[], bad.as_bytes()).await.code(),
            "MalformedXML",
            "{:.80}",
            bad
        );
    }
    let version = b"<Delete><Object><Key>k</Key><VersionId>1</VersionId></Object></Delete>";
    let answer = world.send("POST", "/mail?delete", &[], version).await;
    assert_eq!(names(&answer, "Error"), ["k"]);
    let one = document(&["k"], "");
    assert_eq!(world.send("POST", "/nowhere?delete", &[], one.as_bytes()).await.code(), "NoSuchBucket");
    // Something must vouch for the list.
    assert_eq!(
        world.send_as(Sign::Unsigned, "POST", "/mail?delete", &[], one.as_bytes()).await.code(),
        "InvalidRequest"
    );
    let wrong = [("content-md5", "XUFAKrxLKna5cZ2REBfFkg==")];
    assert_eq!(world.send("POST", "/mail?delete", &wrong, one.as_bytes()).await.code(), "BadDigest");
}

#[tokio::test]
async fn documents_are_bounded_in_length_and_number() {
    let world = World::with_buckets().await;
    let padded = |len: usize| {
        let (open, close) = ("<Delete><Object><Key>k</Key></Object>", "</Delete>");
        format!("{open}{}{close}", " ".repeat(len - open.len() - close.len()))
    };
    let at_bound = world.send("POST", "/mail?delete", &[], padded(XML_LEN_BYTES_MAX).as_bytes()).await;
    assert_eq!(at_bound.status, StatusCode::OK);
    for sign in [Sign::Sha256, Sign::Chunks(65_536)] {
        let above =
            world.send_as(sign, "POST", "/mail?delete", &[], padded(XML_LEN_BYTES_MAX + 1).as_bytes()).await;
        assert_eq!(above.code(), "MaxMessageLengthExceeded");
    }
    // Bodies that never end hold every place; one more is sent away.
    let mut held = Vec::new();
    for _ in 0..XML_BODIES_MAX {
        let (mut parts, _) =
            world.client.request(Sign::Sha256, "POST", "/mail?delete", &[], b"x").into_parts();
        parts.headers.remove("content-length");
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let mut request = Box::pin(world.door.handle(http::Request::from_parts(parts, body)));
        assert!((&mut request).now_or_never().is_none());
        held.push(request);
    }
    let document = b"<Delete><Object><Key>k</Key></Object></Delete>";
    assert_eq!(world.send("POST", "/mail?delete", &[], document).await.code(), "SlowDown");
    held.pop();
    assert_eq!(world.send("POST", "/mail?delete", &[], document).await.status, StatusCode::OK);
}

#[tokio::test]
async fn metadata_that_is_too_large_is_refused() {
    let world = World::with_buckets().await;
    let put = |len: usize| {
        let value = "v".repeat(len - 1);
        let world = &world;
        async move { world.send("PUT", "/mail/k", &[("x-amz-meta-a", &value)], b"").await }
    };
    assert_eq!(put(2048).await.status, StatusCode::OK);
    assert_eq!(put(2049).await.code(), "MetadataTooLarge");
}

/// Counts events by level.
#[derive(Default)]
struct Levels(Mutex<std::collections::BTreeMap<String, usize>>);

impl tracing::Subscriber for Levels {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("strongroom_gateway")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        *self.0.lock().unwrap().entry(event.metadata().level().to_string()).or_default() += 1;
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn what_clients_do_wrong_is_no_alarm() {
    let levels = Arc::new(Levels::default());
    let _guard = tracing::subscriber::set_default(Arc::<Levels>::clone(&levels));
    let world = World::with_buckets().await;
    for target in ["/mail/absent", "/nowhere/k", "/mail?nonsense"] {
        world.send("GET", target, &[], b"").await;
    }
    assert_eq!(*levels.0.lock().unwrap(), [("DEBUG".to_owned(), 3)].into());
    world.store.fail(Some(StoreError::Busy));
    world.send("GET", "/mail/k", &[], b"").await;
    assert_eq!(levels.0.lock().unwrap().get("WARN"), Some(&1));
}
