//! The raw body: pieces of bounded size, each awaited for a bounded time.

use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::limits::{BODY_IDLE_PATIENCE, DISCARD_LEN_BYTES_MAX};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{Either, select};
use http_body::Body;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use strongroom_env::Clock;

/// A body as it comes from the connection.
pub struct Incoming {
    body: http_body_util::combinators::UnsyncBoxBody<Bytes, IncomingError>,
    clock: Arc<dyn Clock>,
    ended: bool,
    started: bool,
}

/// The connection gave no more of the body.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off: {0}")]
pub struct IncomingError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl Incoming {
    /// The body `body`, timed by `clock`.
    pub fn new<B>(body: B, clock: Arc<dyn Clock>) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let ended = body.is_end_stream();
        let body = body.map_err(|error| IncomingError(error.into())).boxed_unsync();
        Self { body, clock, ended, started: false }
    }

    /// The next bytes, never none at all; `None` at the end.
    ///
    /// # Errors
    /// `IncompleteBody` where the connection broke, `RequestTimeout` where nothing came for too long.
    pub async fn next(&mut self) -> DoorResult<Option<Bytes>> {
        self.started = true;
        while !self.ended {
            let frame = match self.body.frame().now_or_never() {
                Some(frame) => frame,
                None => match select(self.body.frame(), self.clock.sleep(BODY_IDLE_PATIENCE)).await {
                    Either::Left((frame, _)) => frame,
                    Either::Right(((), _)) => {
                        self.ended = true;
                        return Err(DoorError::new(
                            ErrorCode::RequestTimeout,
                            "Your socket connection to the server was not read from or written to within the timeout period.",
                        ));
                    }
                },
            };
            match frame {
                None => self.ended = true,
                Some(Err(error)) => {
                    self.ended = true;
                    tracing::debug!(%error, "body broke off");
                    return Err(incomplete());
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    // Empty frames and HTTP's own trailers carry nothing.
                    Ok(_) | Err(_) => {}
                },
            }
        }
        Ok(None)
    }

    /// Whether any byte was asked for: a client that waits for `100 Continue` was told to go on.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// Reads what is left, within bounds, and throws it away. False where there was more than that.
    pub async fn discard(&mut self) -> bool {
        let mut len_bytes: u64 = 0;
        loop {
            match self.next().await {
                Ok(None) => return true,
                Ok(Some(data)) => {
                    len_bytes += data.len() as u64;
                    if len_bytes > DISCARD_LEN_BYTES_MAX {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    }
}

/// The refusal of a body that ended before its announced end.
pub(crate) fn incomplete() -> DoorError {
    DoorError::new(
        ErrorCode::IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
    )
}
