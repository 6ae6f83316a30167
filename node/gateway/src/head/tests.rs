use super::*;

fn head(uri: &str, host: &str) -> DoorResult<Head> {
    let request = http::Request::builder().uri(uri).header("host", host).body(()).unwrap();
    Head::new(request.into_parts().0)
}

fn target(uri: &str, host: &str) -> DoorResult<Target> {
    head(uri, host)?.target(&["s3.example.org".to_owned()])
}

fn object(bucket: &str, key: &str) -> Target {
    Target::Object(BucketName::new(bucket).unwrap(), ObjectKey::new(key).unwrap())
}

#[test]
fn paths_and_hosts_name_buckets_and_keys() {
    let bucket = Target::Bucket(BucketName::new("abc").unwrap());
    assert_eq!(target("/", "localhost"), Ok(Target::Service));
    assert_eq!(target("/abc", "localhost"), Ok(bucket.clone()));
    assert_eq!(target("/abc/", "localhost"), Ok(bucket.clone()));
    assert_eq!(target("/", "abc.s3.example.org:9000"), Ok(bucket));
    assert_eq!(target("/k/l", "abc.s3.example.org"), Ok(object("abc", "k/l")));
    assert_eq!(target("/abc/k/l", "s3.example.org"), Ok(object("abc", "k/l")));
    assert_eq!(target("/abc/k", "other.example.org"), Ok(object("abc", "k")));
    // Segments of dots, doubled slashes, plus signs and escapes are the key's own.
    for (path, key) in [
        ("/abc/../x", "../x"),
        ("/abc/./", "./"),
        ("/abc//a//b/", "/a//b/"),
        ("/abc/a+b%2Bc%20d", "a+b+c d"),
        ("/abc/%C3%A4%2F%00", "ä/\0"),
    ] {
        assert_eq!(target(path, "localhost"), Ok(object("abc", key)), "{path}");
    }
}

#[test]
fn names_outside_the_rules_are_refused() {
    for (uri, code) in [
        ("/ab", ErrorCode::InvalidBucketName),
        ("/ABC/k", ErrorCode::InvalidBucketName),
        ("//k", ErrorCode::InvalidBucketName),
        ("/abc/%ff", ErrorCode::InvalidURI),
        ("/abc/k?a=%", ErrorCode::InvalidURI),
    ] {
        assert_eq!(target(uri, "localhost").map_err(|error| error.code), Err(code), "{uri}");
    }
    let key =
        |len: usize| target(&format!("/abc/{}", "k".repeat(len)), "localhost").map_err(|error| error.code);
    assert!(key(1024).is_ok());
    assert_eq!(key(1025), Err(ErrorCode::KeyTooLongError));
    let longest = "%C3%A4".repeat(512);
    assert!(target(&format!("/abc/{longest}"), "localhost").is_ok());
}

#[test]
fn heads_are_bounded() {
    let query = |count: usize| format!("/abc?{}", vec!["a=b"; count].join("&"));
    assert!(head(&query(PARAMETERS_MAX), "h").is_ok());
    assert_eq!(head(&query(PARAMETERS_MAX + 1), "h").map_err(|e| e.code).err(), Some(ErrorCode::InvalidURI));
    let long = |len: usize| format!("/{}", "k".repeat(len - 1));
    assert!(head(&long(TARGET_LEN_BYTES_MAX), "h").is_ok());
    assert!(head(&long(TARGET_LEN_BYTES_MAX + 1), "h").is_err());
    let with_header = |len: usize| {
        let request = http::Request::builder().header("a", "b".repeat(len - 1)).body(()).unwrap();
        Head::new(request.into_parts().0).map_err(|error| error.code).err()
    };
    assert_eq!(with_header(HEADERS_LEN_BYTES_MAX), None);
    assert_eq!(with_header(HEADERS_LEN_BYTES_MAX + 1), Some(ErrorCode::RequestHeaderSectionTooLarge));
}
