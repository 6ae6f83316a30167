use super::*;
use crate::xml::Element;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn texts(root: &Element, element: &str, child: &str) -> Vec<String> {
    let named = root.children.iter().filter(|candidate| candidate.name == element);
    named.map(|candidate| candidate.child_text(child).unwrap().to_owned()).collect()
}

fn encode(text: &str) -> String {
    crate::percent::encode(text.as_bytes(), crate::percent::Slash::Encode)
}

/// What S3 lists: keys with the prefix, folded at the delimiter, in the order of their bytes.
fn model(keys: &BTreeSet<String>, prefix: &str, delimiter: &str, after: &str) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut prefixes) = (Vec::new(), BTreeSet::new());
    for key in keys.iter().filter(|key| key.starts_with(prefix)) {
        match key[prefix.len()..].find(delimiter).filter(|_| !delimiter.is_empty()) {
            Some(at) => {
                prefixes.insert(key[..prefix.len() + at + delimiter.len()].to_owned());
            }
            None => objects.push(key.clone()),
        }
    }
    objects.retain(|key| key.as_str() > after);
    (objects, prefixes.into_iter().filter(|prefix| prefix.as_str() > after).collect())
}

async fn fill(world: &World, keys: &BTreeSet<String>) {
    for key in keys {
        let target = format!("/mail/{}", crate::percent::encode(key.as_bytes(), crate::percent::Slash::Keep));
        assert_eq!(world.send("PUT", &target, &[], key.as_bytes()).await.status, StatusCode::OK);
    }
}

/// Reads all pages; checks each page's own numbers.
async fn pages(
    world: &World,
    form: Form,
    query: &str,
    max_keys: usize,
    after: &str,
) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    let mut next: Option<String> = None;
    for _ in 0..200 {
        let from = match (form, &next) {
            (Form::First, None) => format!("&marker={}", encode(after)),
            (Form::First, Some(marker)) => format!("&marker={}", encode(marker)),
            (Form::Second, None) => format!("&list-type=2&start-after={}", encode(after)),
            (Form::Second, Some(token)) => format!("&list-type=2&continuation-token={token}"),
        };
        let root =
            world.send("GET", &format!("/mail?max-keys={max_keys}{query}{from}"), &[], b"").await.xml();
        assert_eq!(root.name, "ListBucketResult");
        let (keys, folded) = (texts(&root, "Contents", "Key"), texts(&root, "CommonPrefixes", "Prefix"));
        let count = keys.len() + folded.len();
        assert!(count <= max_keys);
        if form == Form::Second {
            assert_eq!(root.child_text("KeyCount"), Some(count.to_string().as_str()));
        }
        let last = keys.last().max(folded.last()).cloned();
        objects.extend(keys);
        prefixes.extend(folded);
        if root.child_text("IsTruncated") == Some("false") {
            assert_eq!(root.child_text("NextMarker").or(root.child_text("NextContinuationToken")), None);
            return (objects, prefixes);
        }
        assert_eq!(count, max_keys, "a page that is not the last is full");
        next = match form {
            Form::First => root.child_text("NextMarker").map(str::to_owned).or(last),
            Form::Second => Some(root.child_text("NextContinuationToken").unwrap().to_owned()),
        };
    }
    panic!("the list does not end");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    First,
    Second,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pages_of_any_size_give_what_the_model_gives(
        keys in proptest::collection::btree_set("[ab/ä]{1,5}", 0..25),
        prefix in "[ab/]{0,2}",
        delimiter in prop_oneof![Just(""), Just("/"), Just("a"), Just("b/")],
        after in prop_oneof![Just(String::new()), "[ab/]{1,3}"],
        max_keys in 1_usize..6,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::with_buckets().await;
            fill(&world, &keys).await;
            let query = format!("&prefix={}&delimiter={}", encode(&prefix), encode(delimiter));
            let expected = model(&keys, &prefix, delimiter, &after);
            for form in [Form::First, Form::Second] {
                assert_eq!(pages(&world, form, &query, max_keys, &after).await, expected, "{form:?}");
            }
        });
    }
}

#[tokio::test]
async fn parameters_are_echoed_and_checked() {
    let world = World::with_buckets().await;
    let keys: BTreeSet<String> = ["a b", "a+c/d", "ä<&>", "x\ry"].map(str::to_owned).into();
    fill(&world, &keys).await;
    for form in ["", "&list-type=2"] {
        let root = world.send("GET", &format!("/mail?max-keys=5000{form}"), &[], b"").await.xml();
        assert_eq!(texts(&root, "Contents", "Key"), keys.iter().cloned().collect::<Vec<_>>());
        assert_eq!(root.child_text("MaxKeys"), Some("1000"));
        assert_eq!(texts(&root, "Contents", "Size")[0], "3");
        assert_eq!(texts(&root, "Contents", "StorageClass")[0], "STANDARD");
        let root = world
            .send("GET", &format!("/mail?encoding-type=url&delimiter=/&prefix=a{form}"), &[], b"")
            .await
            .xml();
        assert_eq!(texts(&root, "Contents", "Key"), ["a%20b"]);
        assert_eq!(texts(&root, "CommonPrefixes", "Prefix"), ["a%2Bc/"]);
        assert_eq!((root.child_text("EncodingType"), root.child_text("Delimiter")), (Some("url"), Some("/")));
        let none = world.send("GET", &format!("/mail?max-keys=0{form}"), &[], b"").await.xml();
        assert_eq!(
            (texts(&none, "Contents", "Key").len(), none.child_text("IsTruncated")),
            (0, Some("false"))
        );
        let long = "k".repeat(1025);
        for (query, code) in [
            ("max-keys=-1", "InvalidArgument"),
            ("max-keys=x", "InvalidArgument"),
            ("max-keys=2147483648", "InvalidArgument"),
            ("encoding-type=xml", "InvalidArgument"),
            (&format!("prefix={long}"), "KeyTooLongError"),
        ] {
            assert_eq!(
                world.send("GET", &format!("/mail?{query}{form}"), &[], b"").await.code(),
                code,
                "{query}"
            );
        }
        for max_keys in ["0", "1"] {
            let target = format!("/nowhere?max-keys={max_keys}{form}");
            assert_eq!(world.send("GET", &target, &[], b"").await.code(), "NoSuchBucket");
        }
    }
}

#[tokio::test]
async fn tokens_are_checked() {
    let world = World::with_buckets().await;
    fill(&world, &["a", "b"].map(str::to_owned).into()).await;
    let page = world.send("GET", "/mail?list-type=2&max-keys=1", &[], b"").await.xml();
    let token = page.child_text("NextContinuationToken").unwrap().to_owned();
    let list = |bucket: &str, token: &str| {
        let target = format!("/{bucket}?list-type=2&continuation-token={token}");
        let world = &world;
        async move { world.send("GET", &target, &[], b"").await }
    };
    assert_eq!(texts(&list("mail", &token).await.xml(), "Contents", "Key"), ["b"]);
    let changed = format!("A{}", &token[1..]);
    for (bucket, token) in
        [("mail", "x"), ("mail", ""), ("mail", &changed), ("mail", &token[..3]), ("config", &token)]
    {
        assert_eq!(list(bucket, token).await.code(), "InvalidArgument", "{bucket} {token}");
    }
    let owners = world.send("GET", "/mail?list-type=2&fetch-owner=true", &[], b"").await.xml();
    assert!(owners.children.iter().any(|child| child.children.iter().any(|field| field.name == "Owner")));
}
