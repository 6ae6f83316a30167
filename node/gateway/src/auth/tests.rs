//! AWS's published examples ("Authenticating Requests", S3 API reference), and each way to be refused.

use super::*;
use crate::date;
use crate::error::ErrorCode;
use crate::head::Head;
use crate::limits::{CLOCK_SKEW_SECONDS_MAX, PRESIGN_SECONDS_MAX};
use crate::testing::{Client, Keys, ManualClock, Sign};
use http::Request;
use std::sync::Arc;
use std::time::Duration;
use strongroom_types::WallTime;

pub(crate) const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

pub(crate) fn example_time() -> WallTime {
    date::parse_amz("20130524T000000Z").unwrap()
}

pub(crate) fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Head {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Head::new(request.body(()).unwrap().into_parts().0).unwrap()
}

fn enter(head: &Head) -> Result<Authenticated, ErrorCode> {
    authenticate(head, &Keys::one(ACCESS_KEY, SECRET), example_time()).map_err(|error| error.code)
}

fn authorization(signed_headers: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders={signed_headers},Signature={signature}"
    )
}

const EXAMPLE_HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");
const EXAMPLE_DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");
const NO_BODY: (&str, &str) =
    ("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");

#[test]
fn published_examples_by_header_are_let_in() {
    let get = (
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
    let put = (
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    let lifecycle = (
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    );
    let list = (
        "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    );
    let put_headers = [
        ("date", "Fri, 24 May 2013 00:00:00 GMT"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"),
    ];
    for (method, uri, own, (signed, signature)) in [
        ("GET", "/test.txt", &[("range", "bytes=0-9"), NO_BODY][..], get),
        ("PUT", "/test$file.text", &put_headers[..], put),
        ("GET", "/?lifecycle", &[NO_BODY][..], lifecycle),
        ("GET", "/?max-keys=2&prefix=J", &[NO_BODY][..], list),
    ] {
        let authorization = authorization(signed, signature);
        let mut headers = vec![EXAMPLE_HOST, EXAMPLE_DATE, ("authorization", authorization.as_str())];
        headers.extend_from_slice(own);
        let admitted = enter(&head(method, uri, &headers)).map(|admitted| admitted.caller.access_key);
        assert_eq!(admitted, Ok(ACCESS_KEY.to_owned()), "{method} {uri}");
        // Anything else about it, and it is refused.
        assert_eq!(enter(&head("DELETE", uri, &headers)).err(), Some(ErrorCode::SignatureDoesNotMatch));
        let other = if uri.contains('?') { format!("{uri}&a") } else { format!("{uri}?a") };
        assert_eq!(enter(&head(method, &other, &headers)).err(), Some(ErrorCode::SignatureDoesNotMatch));
        headers.push(("x-amz-meta-added", "by someone else"));
        assert_eq!(enter(&head(method, uri, &headers)).err(), Some(ErrorCode::AccessDenied));
    }
}

const PRESIGNED: &str = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
    &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
    &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";

#[test]
fn the_published_presigned_example_is_let_in_until_it_expires() {
    let head = head("GET", PRESIGNED, &[EXAMPLE_HOST]);
    let at = |seconds: u64| {
        let now = WallTime::from_unix_millis(example_time().as_unix_millis() + seconds * 1000);
        authenticate(&head, &Keys::one(ACCESS_KEY, SECRET), now)
            .map(|a| a.presigned)
            .map_err(|e| (e.code, e.message))
    };
    assert_eq!(at(0), Ok(true));
    assert_eq!(at(86_400), Ok(true));
    assert_eq!(at(86_401), Err((ErrorCode::AccessDenied, "Request has expired".to_owned())));
}

fn client() -> (Arc<ManualClock>, Client) {
    let clock = Arc::new(ManualClock::new(example_time()));
    (Arc::clone(&clock), Client::new(ACCESS_KEY, SECRET, clock))
}

fn head_of<B>(request: Request<B>) -> Head {
    Head::new(request.into_parts().0).unwrap()
}

#[test]
fn presigned_urls_are_bounded_in_time() {
    let (clock, client) = client();
    let presigned =
        |seconds| enter(&head_of(client.request(Sign::Presigned(seconds), "GET", "/abc/k", &[], b""))).err();
    assert_eq!(presigned(1), None);
    assert_eq!(presigned(PRESIGN_SECONDS_MAX), None);
    assert_eq!(presigned(PRESIGN_SECONDS_MAX + 1), Some(ErrorCode::AuthorizationQueryParametersError));
    clock.advance(Duration::from_secs(CLOCK_SKEW_SECONDS_MAX));
    assert_eq!(presigned(1), None);
    clock.advance(Duration::from_secs(1));
    assert_eq!(presigned(1), Some(ErrorCode::AccessDenied), "from the future");
    for (from, to) in [
        ("X-Amz-Expires=86400", "X-Amz-Expires=-1"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=x"),
        ("X-Amz-Expires=86400&", ""),
        ("X-Amz-Date=20130524T000000Z", "X-Amz-Date=20130524"),
        ("X-Amz-Date=20130524T", "X-Amz-Date=20130525T"),
        ("20130524%2Fus-east-1%2Fs3", "20130524%2Fus-east-1%2Fec2"),
        ("&X-Amz-SignedHeaders=host", "&X-Amz-SignedHeaders="),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
        ("X-Amz-Signature=ae", "X-Amz-Signature="),
        ("&X-Amz-SignedHeaders=host", "&X-Amz-SignedHeaders=host&X-Amz-SignedHeaders=host"),
    ] {
        let uri = PRESIGNED.replacen(from, to, 1);
        assert_ne!(uri, PRESIGNED);
        let code = enter(&head("GET", &uri, &[EXAMPLE_HOST])).err();
        assert_eq!(code, Some(ErrorCode::AuthorizationQueryParametersError), "{to}");
    }
}

#[test]
fn clocks_may_be_off_by_a_quarter_of_an_hour() {
    let (clock, client) = client();
    let now = |now: WallTime| {
        let head = head_of(client.request(Sign::Sha256, "GET", "/abc/k", &[], b""));
        authenticate(&head, &Keys::one(ACCESS_KEY, SECRET), now).map_err(|error| error.code).err()
    };
    // The client is ahead, then behind.
    clock.advance(Duration::from_secs(CLOCK_SKEW_SECONDS_MAX));
    assert_eq!(now(example_time()), None);
    clock.advance(Duration::from_secs(1));
    assert_eq!(now(example_time()), Some(ErrorCode::RequestTimeTooSkewed));
    let later = |seconds: u64| {
        let client_millis = example_time().as_unix_millis() + (CLOCK_SKEW_SECONDS_MAX + 1) * 1000;
        WallTime::from_unix_millis(client_millis + seconds * 1000)
    };
    assert_eq!(now(later(CLOCK_SKEW_SECONDS_MAX)), None);
    assert_eq!(now(later(CLOCK_SKEW_SECONDS_MAX + 1)), Some(ErrorCode::RequestTimeTooSkewed));
    assert_eq!(now(later(3600)), Some(ErrorCode::RequestTimeTooSkewed));
}

#[test]
fn what_is_not_signature_version_4_is_refused() {
    let zeros = "0".repeat(64);
    let v4 = authorization("host;x-amz-date", &zeros);
    let of = |replace: (&str, &str)| v4.replacen(replace.0, replace.1, 1);
    for (header, code) in [
        ("AWS AKIAIOSFODNN7EXAMPLE:qgk2+6Sv9/oM7G3qLEjTH1a1l1g=".to_owned(), ErrorCode::InvalidRequest),
        ("Basic abc".to_owned(), ErrorCode::InvalidRequest),
        ("AWS4-ECDSA-P256-SHA256 Credential=a".to_owned(), ErrorCode::InvalidRequest),
        ("AWS4-HMAC-SHA256".to_owned(), ErrorCode::AuthorizationHeaderMalformed),
        ("AWS4-HMAC-SHA256 x".to_owned(), ErrorCode::AuthorizationHeaderMalformed),
        (of(("/aws4_request", "")), ErrorCode::AuthorizationHeaderMalformed),
        (of(("/s3/", "/ec2/")), ErrorCode::AuthorizationHeaderMalformed),
        (of(("20130524", "20130525")), ErrorCode::AuthorizationHeaderMalformed),
        (of(("20130524", "x")), ErrorCode::AuthorizationHeaderMalformed),
        (of((",Signature=0", ",Signature=")), ErrorCode::AuthorizationHeaderMalformed),
        (of(("SignedHeaders=host;x-amz-date", "SignedHeaders=")), ErrorCode::AuthorizationHeaderMalformed),
        (of((",Signature", ",Extra=1,Signature")), ErrorCode::AuthorizationHeaderMalformed),
        (of((ACCESS_KEY, "AKIAOTHER")), ErrorCode::InvalidAccessKeyId),
        (of(("host;x-amz-date", "x-amz-date")), ErrorCode::AccessDenied),
        (of(("host;x-amz-date", "host")), ErrorCode::AccessDenied),
        (v4.clone(), ErrorCode::SignatureDoesNotMatch),
    ] {
        let headers = [EXAMPLE_HOST, EXAMPLE_DATE, NO_BODY, ("authorization", header.as_str())];
        assert_eq!(enter(&head("GET", "/abc/k", &headers)).err(), Some(code), "{header}");
    }
    let anonymous = enter(&head("GET", "/abc/k", &[EXAMPLE_HOST])).err();
    assert_eq!(anonymous, Some(ErrorCode::AccessDenied));
    let old = "/abc/k?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=vjbyPxybdZaNmGa%2ByT272YEAiv4%3D&Expires=4141889120";
    assert_eq!(enter(&head("GET", old, &[EXAMPLE_HOST])).err(), Some(ErrorCode::InvalidRequest));
    let both = head("GET", PRESIGNED, &[EXAMPLE_HOST, ("authorization", v4.as_str())]);
    assert_eq!(enter(&both).err(), Some(ErrorCode::InvalidArgument));
    let undated = [EXAMPLE_HOST, NO_BODY, ("authorization", v4.as_str())];
    assert_eq!(enter(&head("GET", "/abc/k", &undated)).err(), Some(ErrorCode::AccessDenied));
    let unhashed = [EXAMPLE_HOST, EXAMPLE_DATE, ("authorization", v4.as_str())];
    assert_eq!(enter(&head("GET", "/abc/k", &unhashed)).err(), Some(ErrorCode::InvalidRequest));
    let token =
        [EXAMPLE_HOST, EXAMPLE_DATE, NO_BODY, ("x-amz-security-token", "t"), ("authorization", v4.as_str())];
    assert_eq!(enter(&head("GET", "/abc/k", &token)).err(), Some(ErrorCode::AccessDenied), "left unsigned");
}

#[test]
fn every_digit_of_a_signature_counts() {
    let (_, client) = client();
    let request = client.request(Sign::Sha256, "GET", "/abc/k", &[], b"");
    let good = request.headers()["authorization"].to_str().unwrap().to_owned();
    for at in good.len() - 64..good.len() {
        let digit = if good.as_bytes()[at] == b'0' { "1" } else { "0" };
        let mut bad = good.clone();
        bad.replace_range(at..=at, digit);
        let mut request = request.clone();
        request.headers_mut().insert("authorization", bad.parse().unwrap());
        assert_eq!(enter(&head_of(request)).err(), Some(ErrorCode::SignatureDoesNotMatch));
    }
}

#[test]
fn keys_and_values_of_every_kind_can_be_signed() {
    let (_, client) = client();
    for target in ["/abc/a%20b+c/%C3%A4//..?prefix=%20%2B&empty&z=1&a=2&a=1", "/abc/%2F%25", "/abc/~-_.!*'()"]
    {
        for sign in [Sign::Sha256, Sign::Presigned(60)] {
            let headers =
                [("x-amz-meta-a", "  many   blanks "), ("x-amz-meta-b", "ä"), ("x-amz-meta-b", "second")];
            let head = head_of(client.request(sign, "GET", target, &headers, b""));
            assert_eq!(enter(&head).err(), None, "{target}");
        }
    }
    assert!(!format!("{:?}", client.secret).contains("wJalr"));
}

proptest::proptest! {
    #[test]
    fn whatever_claims_to_be_a_signature_is_refused_without_a_panic(
        header in "(AWS4-HMAC-SHA256 )?(Credential=[A-Za-z0-9/]{0,40}[, ]?|SignedHeaders=[a-z;-]{0,20},?|Signature=[0-9a-f]{0,70},?|[ -~]{0,10}){0,4}",
        date in "[0-9]{0,9}T?[0-9]{0,7}Z?",
        query in "(&X-Amz-(Algorithm|Credential|Date|Expires|SignedHeaders|Signature)=[!$'-;=?-Z_a-z~]{0,20}){0,7}",
    ) {
        let date = format!("a{date}");
        let headers = [EXAMPLE_HOST, NO_BODY, ("authorization", header.as_str()), ("x-amz-date", &date[1..])];
        proptest::prop_assert!(enter(&head("GET", "/abc/k", &headers)).is_err());
        let uri = format!("/abc/k?{query}");
        proptest::prop_assert!(enter(&head("GET", &uri, &[EXAMPLE_HOST])).is_err());
    }
}
