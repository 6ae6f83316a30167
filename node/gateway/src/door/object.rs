//! Reading objects.

use super::answer::{self, Body};
use super::{Admitted, Door, bucket};
use crate::attributes::{self, Checksums};
use crate::conditions::{self, Outcome, ReadConditions};
use crate::date;
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::head::Head;
use crate::range::{self, Selection};
use crate::store::{ObjectInfo, ObjectReader, StoreError};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use std::ops::Range;
use strongroom_types::{BucketClass, BucketName, ObjectKey, VersionId};

/// The parameters that replace headers of the answer.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-content-type", header::CONTENT_TYPE),
    ("response-content-language", header::CONTENT_LANGUAGE),
    ("response-expires", header::EXPIRES),
    ("response-cache-control", header::CACHE_CONTROL),
    ("response-content-disposition", header::CONTENT_DISPOSITION),
    ("response-content-encoding", header::CONTENT_ENCODING),
];

/// A read that was decided: the answer without its body, and which bytes belong into it.
struct Decided {
    response: Response<Body>,
    range: Range<u64>,
}

impl Door {
    pub(super) async fn get_object(
        &self,
        request: Admitted<'_>,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> DoorResult<Response<Body>> {
        let reader = self.open(bucket, key, request.head.parameter("versionId")).await?;
        let Decided { response, range } = decide(request.head, reader.info())?;
        if range.is_empty() {
            return Ok(response);
        }
        let len_bytes = range.end - range.start;
        let body = answer::object(reader.read(range), len_bytes).await?;
        Ok(response.map(|_| body))
    }

    pub(super) async fn head_object(
        &self,
        request: Admitted<'_>,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> DoorResult<Response<Body>> {
        let reader = self.open(bucket, key, request.head.parameter("versionId")).await?;
        decide(request.head, reader.info()).map(|decided| decided.response)
    }

    pub(super) async fn object_acl(
        &self,
        request: Admitted<'_>,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> DoorResult<Response<Body>> {
        self.open(bucket, key, request.head.parameter("versionId")).await?;
        Ok(bucket::acl())
    }

    /// Opens the version that a client names, or the current one.
    pub(super) async fn open(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version: Option<&str>,
    ) -> DoorResult<Box<dyn ObjectReader>> {
        let version = match version {
            None | Some("null") => None,
            Some(text) => {
                let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let number = if digits { u128::from_str_radix(text, 16).ok() } else { None };
                let invalid =
                    || DoorError::invalid_argument("versionId", text, "Invalid version id specified");
                Some(VersionId::new(number.ok_or_else(invalid)?))
            }
        };
        self.store().open(bucket, key, version).await.map_err(|error| match (error, version) {
            (StoreError::NoSuchKey, Some(version)) => {
                DoorError::new(ErrorCode::NoSuchVersion, "The specified version does not exist.")
                    .with("Key", key.as_str())
                    .with("VersionId", version.to_string())
            }
            (StoreError::NoSuchKey, None) => DoorError::from(StoreError::NoSuchKey).with("Key", key.as_str()),
            (other, _) => other.into(),
        })
    }
}

/// Decides conditions and range.
fn decide(head: &Head, info: &ObjectInfo) -> DoorResult<Decided> {
    match ReadConditions::new(head, "")?.evaluate(&info.etag, info.modified) {
        Outcome::Proceed => {}
        Outcome::Failed => {
            let name = if head.headers.contains_key("if-match") { "If-Match" } else { "If-Unmodified-Since" };
            return Err(conditions::failed(name));
        }
        Outcome::NotModified => {
            let mut response = answer::empty(StatusCode::NOT_MODIFIED);
            validators(info, response.headers_mut());
            return Ok(Decided { response, range: 0..0 });
        }
    }
    let wanted = if conditions::range_applies(head, &info.etag, info.modified)? {
        head.header("range")?
    } else {
        None
    };
    let (status, range) = match range::select(wanted, info.len_bytes) {
        Selection::Whole => (StatusCode::OK, 0..info.len_bytes),
        Selection::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Selection::Unsatisfiable => {
            return Err(DoorError::new(ErrorCode::InvalidRange, "The requested range is not satisfiable")
                .with("RangeRequested", wanted.unwrap_or(""))
                .with("ActualObjectSize", info.len_bytes.to_string()));
        }
    };
    let mut response = answer::empty(status);
    let headers = response.headers_mut();
    validators(info, headers);
    answer::set(headers, header::ACCEPT_RANGES, "bytes");
    answer::set(headers, header::CONTENT_LENGTH, &(range.end - range.start).to_string());
    let mut checksums = Checksums::Hidden;
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{}", range.start, range.end - 1, info.len_bytes);
        answer::set(headers, header::CONTENT_RANGE, &text);
    } else if head.header("x-amz-checksum-mode")?.is_some_and(|mode| mode.eq_ignore_ascii_case("enabled")) {
        checksums = Checksums::Shown;
    }
    attributes::write(&info.attributes, checksums, headers);
    for (parameter, name) in OVERRIDES {
        if let Some(text) = head.parameter(parameter) {
            let value = HeaderValue::from_bytes(text.as_bytes())
                .map_err(|_| DoorError::invalid_argument(parameter, text, "Not a header's value."))?;
            headers.insert(name, value);
        }
    }
    Ok(Decided { response, range })
}

/// The headers by which clients know a version again.
fn validators(info: &ObjectInfo, headers: &mut HeaderMap) {
    answer::set(headers, header::ETAG, &format!("\"{}\"", info.etag.as_str()));
    answer::set(headers, header::LAST_MODIFIED, &date::http(info.modified));
    version(info, headers);
}

/// The version's id, where versions are kept.
pub(super) fn version(info: &ObjectInfo, headers: &mut HeaderMap) {
    if info.class == BucketClass::Config {
        answer::set(headers, HeaderName::from_static("x-amz-version-id"), &info.version.to_string());
    }
}
