//! Answers: bodies, XML, errors.

use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::store::StoreError;
use crate::xml::XmlWriter;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The body of an answer. An error in it breaks the connection off: the client sees that bytes are missing.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body broke off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The store could not go on.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store gave more or fewer bytes than it announced.
    #[error("the store's bytes are off the announced length by more than {remaining_bytes}")]
    Length {
        /// Bytes that were still expected.
        remaining_bytes: u64,
    },
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// An XML document.
pub(super) fn document(text: String) -> Response<Body> {
    let mut response =
        Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

/// A refusal. Answers to HEAD have no body, so the code is lost there, as in S3.
pub(super) fn error(error: &DoorError, resource: &str, request_id: &str, is_head: bool) -> Response<Body> {
    let mut response = if is_head {
        empty(error.code.status())
    } else {
        document(XmlWriter::document_bare("Error", |xml| {
            xml.text("Code", error.code.as_str());
            xml.text("Message", &error.message);
            for (name, value) in &error.fields {
                xml.text(name, value);
            }
            xml.text("Resource", resource);
            xml.text("RequestId", request_id);
            xml.text("HostId", "strongroom");
        }))
    };
    *response.status_mut() = error.code.status();
    let headers = response.headers_mut();
    match error.code {
        ErrorCode::SlowDown | ErrorCode::ServiceUnavailable => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        ErrorCode::InvalidRange => {
            let len =
                error.fields.iter().find(|(name, _)| *name == "ActualObjectSize").map(|(_, value)| value);
            if let Some(value) = len.and_then(|len| HeaderValue::try_from(format!("bytes */{len}")).ok()) {
                headers.insert(header::CONTENT_RANGE, value);
            }
        }
        _ => {}
    }
    response
}

/// Sets a header whose value comes from numbers, ids and tags.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // A tag from the store that cannot be a header is a broken invariant of the store, not worth a crash here.
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.insert(name, value);
    }
}

/// The bytes of an object as a body of exactly `len_bytes`. The first of them are awaited here, so that an object that
/// cannot be read is refused by a status rather than by a broken connection.
pub(super) async fn object(
    mut stream: BoxStream<'static, Result<Bytes, StoreError>>,
    len_bytes: u64,
) -> DoorResult<Body> {
    let first = if len_bytes == 0 {
        None
    } else {
        let first = stream.next().await.ok_or_else(|| {
            DoorError::new(ErrorCode::InternalError, "We encountered an internal error. Please try again.")
        })?;
        Some(first?)
    };
    Ok(ObjectBody { first, stream, remaining_bytes: len_bytes }.boxed_unsync())
}

/// A body that ends after exactly the announced bytes, or in an error.
struct ObjectBody {
    first: Option<Bytes>,
    stream: BoxStream<'static, Result<Bytes, StoreError>>,
    remaining_bytes: u64,
}

impl http_body::Body for ObjectBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.remaining_bytes == 0 {
            return Poll::Ready(None);
        }
        let next = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => match self.stream.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next,
            },
        };
        let result = match next {
            Some(Ok(data)) => match self.remaining_bytes.checked_sub(data.len() as u64) {
                Some(left) => {
                    self.remaining_bytes = left;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                None => BodyError::Length { remaining_bytes: self.remaining_bytes },
            },
            Some(Err(error)) => BodyError::Store(error),
            None => BodyError::Length { remaining_bytes: self.remaining_bytes },
        };
        tracing::warn!(error = %result, "answer broke off");
        Poll::Ready(Some(Err(result)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining_bytes)
    }
}
