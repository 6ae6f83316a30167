//! What clients say of an object besides its bytes: from headers when it is stored, to headers when it is read.

use crate::checksum::Algorithm;
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::head::Head;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES, HeaderMap,
    HeaderName, HeaderValue,
};
use strongroom_types::Attributes;
use strongroom_types::limits::USER_METADATA_LEN_BYTES_MAX;

const USER_PREFIX: &str = "x-amz-meta-";
/// What S3 says of an object whose client said nothing.
pub const CONTENT_TYPE_DEFAULT: &str = "binary/octet-stream";

/// Reads the attributes that `head` gives to an object. In a presigned request user metadata may stand in the query.
///
/// # Errors
/// `MetadataTooLarge`, `InvalidArgument`.
pub fn read(head: &Head) -> DoorResult<Attributes> {
    let owned = |name: &str| head.header(name).map(|value| value.map(str::to_owned));
    let mut user: Vec<(String, String)> = Vec::new();
    for name in head.headers.keys() {
        let Some(short) = name.as_str().strip_prefix(USER_PREFIX) else { continue };
        let mut values = Vec::new();
        for value in head.headers.get_all(name) {
            let text = std::str::from_utf8(value.as_bytes()).map_err(|_| {
                DoorError::invalid_argument(name.as_str(), "", "User metadata must be UTF-8.")
            })?;
            values.push(text.trim());
        }
        user.push((short.to_owned(), values.join(",")));
    }
    for parameter in &head.parameters {
        let lower = parameter.name.to_ascii_lowercase();
        let Some(short) = lower.strip_prefix(USER_PREFIX) else { continue };
        // It comes back as a header, so it must be able to be one.
        let fits = HeaderName::from_bytes(lower.as_bytes()).is_ok()
            && HeaderValue::from_str(&parameter.value).is_ok();
        if !fits {
            return Err(DoorError::invalid_argument(
                &parameter.name,
                &parameter.value,
                "Not a header's name and value.",
            ));
        }
        if !user.iter().any(|(name, _)| name == short) {
            user.push((short.to_owned(), parameter.value.clone()));
        }
    }
    let user_len: usize = user.iter().map(|(name, value)| name.len() + value.len()).sum();
    if user_len > USER_METADATA_LEN_BYTES_MAX {
        return Err(DoorError::new(
            ErrorCode::MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size",
        )
        .with("Size", user_len.to_string())
        .with("MaxSizeAllowed", USER_METADATA_LEN_BYTES_MAX.to_string()));
    }
    Ok(Attributes {
        content_type: owned("content-type")?,
        content_encoding: head.header("content-encoding")?.and_then(without_aws_chunked),
        content_language: owned("content-language")?,
        content_disposition: owned("content-disposition")?,
        cache_control: owned("cache-control")?,
        expires: owned("expires")?,
        user,
        checksums: Vec::new(),
    })
}

/// `aws-chunked` is how the body travelled, not what the object is.
fn without_aws_chunked(value: &str) -> Option<String> {
    let kept: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    let kept = kept.join(", ");
    (!kept.is_empty()).then_some(kept)
}

/// Which of the stored checksums are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// None: not asked for, or not the whole object.
    Hidden,
    /// All.
    Shown,
}

/// Writes `attributes` as headers.
pub fn write(attributes: &Attributes, checksums: Checksums, headers: &mut HeaderMap) {
    let mut put = |name: HeaderName, value: &str| {
        // What was read from a header can be one again; a value from elsewhere that cannot is left out.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(name, value);
        }
    };
    put(CONTENT_TYPE, attributes.content_type.as_deref().unwrap_or(CONTENT_TYPE_DEFAULT));
    for (name, value) in [
        (CONTENT_ENCODING, &attributes.content_encoding),
        (CONTENT_LANGUAGE, &attributes.content_language),
        (CONTENT_DISPOSITION, &attributes.content_disposition),
        (CACHE_CONTROL, &attributes.cache_control),
        (EXPIRES, &attributes.expires),
    ] {
        if let Some(value) = value {
            put(name, value);
        }
    }
    for (name, value) in &attributes.user {
        if let Ok(name) = HeaderName::from_bytes(format!("{USER_PREFIX}{name}").as_bytes()) {
            put(name, value);
        }
    }
    if checksums == Checksums::Shown {
        for (name, value) in &attributes.checksums {
            if let Some(algorithm) = Algorithm::from_name(name) {
                put(HeaderName::from_static(algorithm.header()), value);
            }
        }
        if !attributes.checksums.is_empty() {
            put(HeaderName::from_static("x-amz-checksum-type"), "FULL_OBJECT");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&str, &str)], uri: &str) -> Head {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Head::new(request.body(()).unwrap().into_parts().0).unwrap()
    }

    #[test]
    fn what_is_read_is_written_again() {
        let given = [
            ("content-type", "message/rfc822"),
            ("content-encoding", "gzip"),
            ("content-language", "de"),
            ("content-disposition", "attachment; filename=ä"),
            ("cache-control", "no-cache"),
            ("expires", "whenever"),
            ("x-amz-meta-one", "1"),
            ("x-amz-meta-two", "zwei: ü"),
        ];
        let attributes = read(&head(&given, "/")).unwrap();
        assert_eq!(attributes.user, [("one".into(), "1".into()), ("two".into(), "zwei: ü".into())]);
        let mut headers = HeaderMap::new();
        write(&attributes, Checksums::Shown, &mut headers);
        assert_eq!(headers.len(), given.len());
        for (name, value) in given {
            assert_eq!(headers[name].as_bytes(), value.as_bytes());
        }
    }

    #[test]
    fn aws_chunked_is_taken_off_and_the_rest_stays() {
        for (given, kept) in [
            ("aws-chunked", None),
            ("aws-chunked,gzip", Some("gzip")),
            ("gzip, AWS-Chunked", Some("gzip")),
            ("gzip, br", Some("gzip, br")),
        ] {
            let attributes = read(&head(&[("content-encoding", given)], "/")).unwrap();
            assert_eq!(attributes.content_encoding.as_deref(), kept, "{given}");
        }
    }

    #[test]
    fn user_metadata_is_bounded_and_may_stand_in_the_query() {
        let of = |len: usize| {
            read(&head(&[("x-amz-meta-a", &"v".repeat(len - 1))], "/")).map_err(|error| error.code)
        };
        assert!(of(USER_METADATA_LEN_BYTES_MAX).is_ok());
        assert_eq!(of(USER_METADATA_LEN_BYTES_MAX + 1), Err(ErrorCode::MetadataTooLarge));
        let attributes = read(&head(&[], "/?X-Amz-Meta-Q=1&x-amz-meta-r=a%20b")).unwrap();
        assert_eq!(attributes.user, [("q".into(), "1".into()), ("r".into(), "a b".into())]);
        assert!(read(&head(&[], "/?x-amz-meta-r=a%0Ab")).is_err());
    }
}
