//! Refusals as problem bodies (RFC 9457): what is wrong, where, what was expected, and what to do.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a problem body.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// A problem body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What sort of problem, for programs.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:strongroom:problem:unknown-job")]
    pub sort: Box<str>,
    /// The same in a few words.
    #[schema(value_type = String)]
    pub title: Box<str>,
    /// The HTTP status.
    pub status: u16,
    /// What was met here, and what to do.
    pub detail: String,
    /// The field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What may stand there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// Sorts of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// There is nothing at this path.
    NoSuchPath,
    /// The path takes other methods; `Allow` says which.
    WrongMethod,
    /// The body is of a type that is not taken.
    WrongContentType,
    /// The body is longer than may be.
    TooLarge,
    /// The body did not come in time.
    TooSlow,
    /// Not JSON, or a field that is missing, unknown or of the wrong kind.
    BadInput,
    /// No such job.
    UnknownJob,
    /// No such drive on this node.
    UnknownDrive,
    /// The cluster has no such node.
    UnknownNode,
    /// Nobody asked for that to be emptied.
    UnknownDrain,
    /// The node is not to go yet.
    NodeInUse,
    /// Another job is in the way.
    Conflict,
    /// A job is not one with which this can be done.
    NotPossible,
    /// A bucket of this name is there already.
    BucketExists,
    /// As many as may be at once are under way.
    Busy,
    /// The cluster does not answer now.
    Unavailable,
    /// The node does not serve.
    NotReady,
}

impl Sort {
    fn parts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::NoSuchPath => ("no-such-path", "no such path", StatusCode::NOT_FOUND),
            Self::WrongMethod => ("wrong-method", "wrong method", StatusCode::METHOD_NOT_ALLOWED),
            Self::WrongContentType => {
                ("wrong-content-type", "wrong content type", StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Self::TooLarge => ("too-large", "body too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::TooSlow => ("too-slow", "body too slow", StatusCode::REQUEST_TIMEOUT),
            Self::BadInput => ("bad-input", "bad input", StatusCode::BAD_REQUEST),
            Self::UnknownJob => ("unknown-job", "unknown job", StatusCode::NOT_FOUND),
            Self::UnknownDrive => ("unknown-drive", "unknown drive", StatusCode::NOT_FOUND),
            Self::UnknownNode => ("unknown-node", "unknown node", StatusCode::NOT_FOUND),
            Self::UnknownDrain => ("unknown-drain", "unknown drain", StatusCode::NOT_FOUND),
            Self::NodeInUse => ("node-in-use", "node in use", StatusCode::CONFLICT),
            Self::Conflict => ("conflict", "conflicting job", StatusCode::CONFLICT),
            Self::NotPossible => ("not-possible", "not possible with this job", StatusCode::CONFLICT),
            Self::BucketExists => ("bucket-exists", "bucket exists", StatusCode::CONFLICT),
            Self::Busy => ("busy", "too much at once", StatusCode::SERVICE_UNAVAILABLE),
            Self::Unavailable => ("unavailable", "not available now", StatusCode::SERVICE_UNAVAILABLE),
            Self::NotReady => ("not-ready", "not ready", StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

impl Problem {
    /// A problem of this sort; `detail` says what was met, and what to do.
    pub fn new(sort: Sort, detail: impl Into<String>) -> Self {
        let (name, title, status) = sort.parts();
        Self {
            sort: format!("urn:strongroom:problem:{name}").into(),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            expected: None,
        }
    }

    /// Of this field.
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Where this was expected.
    pub fn with_expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("made from a status");
        let text = serde_json::to_vec(&self).expect("a problem is plain data");
        let content_type = HeaderValue::from_static(PROBLEM_TYPE);
        (status, [(header::CONTENT_TYPE, content_type)], text).into_response()
    }
}
