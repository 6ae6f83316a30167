use super::*;

fn resolve_with(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<&'static str, ErrorCode> {
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let head = Head::new(request.body(()).unwrap().into_parts().0).unwrap();
    let target = head.target(&[]).unwrap();
    Operation::resolve(&head, target).map(|operation| operation.name()).map_err(|error| error.code)
}

fn resolve(method: &str, uri: &str) -> Result<&'static str, ErrorCode> {
    resolve_with(method, uri, &[])
}

#[test]
fn the_operations_that_are_known() {
    for (method, uri, name) in [
        ("GET", "/", "ListBuckets"),
        ("GET", "/?x-id=ListBuckets", "ListBuckets"),
        ("PUT", "/abc", "CreateBucket"),
        ("PUT", "/abc/", "CreateBucket"),
        ("HEAD", "/abc", "HeadBucket"),
        ("DELETE", "/abc", "DeleteBucket"),
        ("GET", "/abc?location", "GetBucketLocation"),
        ("GET", "/abc?location=", "GetBucketLocation"),
        ("GET", "/abc?versioning", "GetBucketVersioning"),
        ("GET", "/abc?acl", "GetBucketAcl"),
        ("GET", "/abc", "ListObjects"),
        ("GET", "/abc?prefix=a&delimiter=/&marker=b&max-keys=1&encoding-type=url", "ListObjects"),
        (
            "GET",
            "/abc?list-type=2&prefix=a&delimiter=/&start-after=b&continuation-token=c&fetch-owner=true",
            "ListObjectsV2",
        ),
        ("POST", "/abc?delete", "DeleteObjects"),
        ("GET", "/abc/k", "GetObject"),
        ("GET", "/abc/k?versionId=1&response-content-type=a", "GetObject"),
        ("GET", "/abc/k?acl", "GetObjectAcl"),
        ("HEAD", "/abc/k", "HeadObject"),
        ("PUT", "/abc/k?x-id=PutObject", "PutObject"),
        ("DELETE", "/abc/k", "DeleteObject"),
    ] {
        assert_eq!(resolve(method, uri), Ok(name), "{method} {uri}");
    }
    assert_eq!(resolve_with("PUT", "/abc/k", &[("x-amz-copy-source", "/a/b")]), Ok("CopyObject"));
}

#[test]
fn no_unknown_subresource_or_parameter_falls_through() {
    for (method, uri) in [
        ("GET", "/abc?nonsense"),
        ("GET", "/abc?uploads"),
        ("GET", "/abc?versions"),
        ("GET", "/abc?object-lock"),
        ("GET", "/abc?notification"),
        ("GET", "/abc?events"),
        ("PUT", "/abc?versioning"),
        ("PUT", "/abc?policy"),
        ("PUT", "/abc?nonsense"),
        ("DELETE", "/abc?policy"),
        ("DELETE", "/abc?lifecycle"),
        ("DELETE", "/abc?nonsense"),
        ("HEAD", "/abc?nonsense"),
        ("GET", "/abc?list-type=2&marker=a"),
        ("GET", "/abc?list-type=2&nonsense"),
        ("GET", "/abc?X-Amz-Meta-a=b"),
        ("GET", "/abc/k?tagging"),
        ("GET", "/abc/k?partNumber=1"),
        ("GET", "/abc/k?uploadId=1"),
        ("PUT", "/abc/k?tagging"),
        ("PUT", "/abc/k?partNumber=1&uploadId=1"),
        ("POST", "/abc/k?uploads"),
        ("POST", "/abc/k?restore"),
        ("DELETE", "/abc/k?tagging"),
        ("DELETE", "/abc/k?versionId=1"),
        ("DELETE", "/abc/k?uploadId=1"),
        ("GET", "/?nonsense"),
        ("GET", "/?session"),
    ] {
        assert_eq!(resolve(method, uri), Err(ErrorCode::NotImplemented), "{method} {uri}");
    }
    assert_eq!(resolve("GET", "/abc?list-type=3"), Err(ErrorCode::InvalidArgument));
    assert_eq!(resolve("GET", "/abc?acl&policy"), Err(ErrorCode::InvalidArgument));
    for (method, uri) in
        [("POST", "/abc"), ("POST", "/abc/k"), ("OPTIONS", "/abc"), ("PATCH", "/abc/k"), ("PUT", "/")]
    {
        assert_eq!(resolve(method, uri), Err(ErrorCode::MethodNotAllowed), "{method} {uri}");
    }
}

#[test]
fn every_subresource_is_refused_or_known_for_every_method() {
    for name in SUBRESOURCES {
        for method in ["GET", "PUT", "DELETE", "HEAD", "POST"] {
            for path in ["/abc", "/abc/k"] {
                if let Ok(operation) = resolve(method, &format!("{path}?{name}")) {
                    let plain = [
                        "ListObjects",
                        "ListObjectsV2",
                        "PutObject",
                        "GetObject",
                        "DeleteObject",
                        "DeleteBucket",
                        "CreateBucket",
                    ];
                    assert!(!plain.contains(&operation), "{method} {path}?{name} became {operation}");
                }
            }
        }
    }
}

#[test]
fn post_forms_are_refused_before_their_body() {
    let form = [("content-type", "multipart/form-data; boundary=x")];
    assert_eq!(resolve_with("POST", "/abc", &form), Err(ErrorCode::NotImplemented));
}

#[test]
fn promises_that_cannot_be_kept_are_refused() {
    for (name, value, code) in [
        ("x-amz-object-lock-mode", "COMPLIANCE", ErrorCode::NotImplemented),
        ("x-amz-object-lock-legal-hold", "ON", ErrorCode::NotImplemented),
        ("x-amz-server-side-encryption-customer-key", "a", ErrorCode::NotImplemented),
        ("x-amz-server-side-encryption", "aws:kms", ErrorCode::NotImplemented),
        ("x-amz-tagging", "a=b", ErrorCode::NotImplemented),
        ("x-amz-website-redirect-location", "/", ErrorCode::NotImplemented),
        ("x-amz-acl", "public-read", ErrorCode::AccessControlListNotSupported),
        ("x-amz-grant-read", "a", ErrorCode::AccessControlListNotSupported),
        ("x-amz-storage-class", "GLACIER", ErrorCode::InvalidStorageClass),
    ] {
        assert_eq!(resolve_with("PUT", "/abc/k", &[(name, value)]), Err(code), "{name}");
    }
    for (name, value) in [
        ("x-amz-acl", "private"),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-meta-a", "b"),
        ("x-amz-date", "d"),
        ("x-amz-request-payer", "requester"),
    ] {
        assert_eq!(resolve_with("PUT", "/abc/k", &[(name, value)]), Ok("PutObject"), "{name}");
    }
}
