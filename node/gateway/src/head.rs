//! A request's head, parsed once: where it points, its parameters, its headers.

use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::limits::{HEADERS_LEN_BYTES_MAX, HEADERS_MAX, PARAMETERS_MAX, TARGET_LEN_BYTES_MAX};
use crate::percent::{self, Plus};
use http::{HeaderMap, Method};
use strongroom_types::object::NameError;
use strongroom_types::{BucketName, ObjectKey};

/// A query parameter, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value; empty where there was no `=`.
    pub value: String,
}

/// What a request points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The service itself.
    Service,
    /// A bucket.
    Bucket(BucketName),
    /// An object.
    Object(BucketName, ObjectKey),
}

/// A request without its body.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The path, decoded.
    pub path: String,
    /// The parameters, in the order given.
    pub parameters: Vec<Parameter>,
    /// The headers.
    pub headers: HeaderMap,
    /// The host that was asked, with its port.
    pub host: String,
}

impl Head {
    /// Parses a head.
    ///
    /// # Errors
    /// `InvalidURI` for a path or query that is no UTF-8 once decoded; too long, too many headers or parameters.
    pub fn new(parts: http::request::Parts) -> DoorResult<Self> {
        let http::request::Parts { method, uri, headers, .. } = parts;
        let invalid = || DoorError::new(ErrorCode::InvalidURI, "Couldn't parse the specified URI.");
        let target_len = uri.path().len() + uri.query().map_or(0, str::len);
        if target_len > TARGET_LEN_BYTES_MAX {
            return Err(DoorError::new(
                ErrorCode::InvalidURI,
                format!("The URI has {target_len} bytes, at most {TARGET_LEN_BYTES_MAX} are taken."),
            ));
        }
        let headers_len: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if headers_len > HEADERS_LEN_BYTES_MAX || headers.len() > HEADERS_MAX {
            return Err(DoorError::new(
                ErrorCode::RequestHeaderSectionTooLarge,
                "Your request header and metadata exceed the maximum allowed size.",
            )
            .with("MaxSizeAllowed", HEADERS_LEN_BYTES_MAX.to_string()));
        }
        let mut parameters = Vec::new();
        for pair in uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(DoorError::new(ErrorCode::InvalidURI, "Too many query parameters."));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.push(Parameter {
                name: percent::decode(name, Plus::Space).ok_or_else(invalid)?,
                value: percent::decode(value, Plus::Space).ok_or_else(invalid)?,
            });
        }
        let path = percent::decode(uri.path(), Plus::Literal).ok_or_else(invalid)?;
        let host = match headers.get(http::header::HOST) {
            Some(host) => host.to_str().map_err(|_| invalid())?.to_owned(),
            None => uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default(),
        };
        Ok(Self { method, path, parameters, headers, host })
    }

    /// The one value of a header as text; `None` where it is absent or empty.
    ///
    /// # Errors
    /// `InvalidArgument` where it is no UTF-8.
    pub fn header(&self, name: &str) -> DoorResult<Option<&str>> {
        match self.headers.get(name) {
            None => Ok(None),
            Some(value) => match std::str::from_utf8(value.as_bytes()) {
                Ok(text) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
                Err(_) => Err(DoorError::invalid_argument(name, "", "The header's value is not UTF-8.")),
            },
        }
    }

    /// The value of a parameter; the first where it is repeated.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|parameter| parameter.name == name)
            .map(|parameter| parameter.value.as_str())
    }

    /// What the request points at: by path, or by host where the host is a name under one of `domains`.
    ///
    /// # Errors
    /// `InvalidBucketName`, `KeyTooLongError`.
    pub fn target(&self, domains: &[String]) -> DoorResult<Target> {
        let path = self.path.strip_prefix('/').unwrap_or(&self.path);
        let (bucket, key) = match bucket_of_host(&self.host, domains) {
            Some(bucket) => (bucket, path),
            None => path.split_once('/').unwrap_or((path, "")),
        };
        if bucket.is_empty() {
            return match key {
                "" => Ok(Target::Service),
                _ => Err(DoorError::new(ErrorCode::InvalidBucketName, "The specified bucket is not valid.")),
            };
        }
        let name = bucket_name(bucket)?;
        if key.is_empty() { Ok(Target::Bucket(name)) } else { Ok(Target::Object(name, object_key(key)?)) }
    }
}

/// `name` as a bucket's name.
///
/// # Errors
/// `InvalidBucketName`.
pub fn bucket_name(name: &str) -> DoorResult<BucketName> {
    BucketName::new(name).map_err(|error| {
        DoorError::new(ErrorCode::InvalidBucketName, error.to_string()).with("BucketName", name)
    })
}

/// `key` as an object's key.
///
/// # Errors
/// `KeyTooLongError`, or `InvalidArgument` where it is empty.
pub fn object_key(key: &str) -> DoorResult<ObjectKey> {
    ObjectKey::new(key).map_err(|error| match error {
        NameError::KeyTooLong { len_bytes } => {
            DoorError::new(ErrorCode::KeyTooLongError, "Your key is too long.")
                .with("Size", len_bytes.to_string())
        }
        NameError::KeyEmpty | NameError::Bucket(_) => {
            DoorError::invalid_argument("Key", key, error.to_string())
        }
    })
}

/// `bucket` of the host `bucket.domain[:port]`.
fn bucket_of_host<'a>(host: &'a str, domains: &[String]) -> Option<&'a str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    domains
        .iter()
        .find_map(|domain| name.strip_suffix(domain.as_str())?.strip_suffix('.'))
        .filter(|b| !b.is_empty())
}

#[cfg(test)]
mod tests;
