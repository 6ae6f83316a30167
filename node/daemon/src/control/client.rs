//! Asks a node over its control socket.

use super::drains::{DrainView, Subject};
use super::jobs::{SetPace, StartJob};
use super::nodes::DismissedView;
use super::problem::Problem;
use crate::jobs::{Estimate, JobView};
use crate::status::{ClusterStatus, NodeStatus};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;

/// Bytes of an answer at most; of a stream, of one event.
const ANSWER_LEN_BYTES_MAX: usize = 4 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// All slab tables are read for it.
const DISMISS_PATIENCE: Duration = Duration::from_secs(120);

/// Why a node gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens on the socket.
    #[error(
        "{path}: {source}; is the node running? `--control` names its socket, as `control_socket` in its node.toml does"
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke, the answer was too long, or none came in time.
    #[error("{path}: no usable answer: {reason}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// In words.
        reason: String,
    },
    /// The node refused; nothing changed.
    #[error("{}: {} ({})", .0.title, .0.detail, .0.status)]
    Refused(Box<Problem>),
}

/// What came of asking for a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Started {
    /// It is under way.
    Begun(Box<JobView>),
    /// It was a dry run.
    Would(Estimate),
}

/// An event as it was streamed.
#[derive(Clone, Debug, PartialEq)]
pub struct Streamed {
    /// Its id, for going on behind it.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// What it says.
    pub data: serde_json::Value,
}

/// A client of one node.
#[derive(Clone, Debug)]
pub struct ControlClient {
    path: PathBuf,
}

impl ControlClient {
    /// A client of the socket at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn status(&self) -> Result<NodeStatus, ControlError> {
        self.get("/v1/status").await
    }

    /// `GET /v1/cluster`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn cluster(&self) -> Result<ClusterStatus, ControlError> {
        self.get("/v1/cluster").await
    }

    /// `GET /v1/jobs`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn jobs(&self) -> Result<Vec<JobView>, ControlError> {
        self.get("/v1/jobs").await
    }

    /// `GET /v1/jobs/{id}`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn job(&self, id: u64) -> Result<JobView, ControlError> {
        self.get(&format!("/v1/jobs/{id}")).await
    }

    /// `POST /v1/jobs`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn start(&self, job: &StartJob) -> Result<Started, ControlError> {
        let (status, body) = self.ask(Method::POST, "/v1/jobs", Some(json_of(job))).await?;
        Ok(match status {
            StatusCode::ACCEPTED => Started::Begun(Box::new(self.parse(&body)?)),
            _ => Started::Would(self.parse(&body)?),
        })
    }

    /// `POST /v1/jobs/{id}/{verb}`: `pause`, `resume` or `cancel`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn order(&self, id: u64, verb: &str) -> Result<JobView, ControlError> {
        let (_, body) = self.ask(Method::POST, &format!("/v1/jobs/{id}/{verb}"), None).await?;
        self.parse(&body)
    }

    /// `POST /v1/jobs/{id}/pace`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn pace(&self, id: u64, bytes_per_second: Option<NonZeroU64>) -> Result<JobView, ControlError> {
        let pace = json_of(&SetPace { bytes_per_second });
        let (_, body) = self.ask(Method::POST, &format!("/v1/jobs/{id}/pace"), Some(pace)).await?;
        self.parse(&body)
    }

    /// `GET /v1/drains`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn drains(&self) -> Result<Vec<DrainView>, ControlError> {
        self.get("/v1/drains").await
    }

    /// `GET /v1/drains/{subject}`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn drain(&self, subject: Subject) -> Result<DrainView, ControlError> {
        self.get(&format!("/v1/drains/{subject}")).await
    }

    /// `PUT /v1/drains/{subject}`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn begin_drain(&self, subject: Subject) -> Result<DrainView, ControlError> {
        let (_, body) = self.ask(Method::PUT, &format!("/v1/drains/{subject}"), None).await?;
        self.parse(&body)
    }

    /// `DELETE /v1/drains/{subject}`; gives the drains that are left.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn end_drain(&self, subject: Subject) -> Result<Vec<DrainView>, ControlError> {
        let (_, body) = self.ask(Method::DELETE, &format!("/v1/drains/{subject}"), None).await?;
        self.parse(&body)
    }

    /// `DELETE /v1/nodes/{node}`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn dismiss(&self, node: Subject, lose_data: bool) -> Result<DismissedView, ControlError> {
        let path = format!("/v1/nodes/{node}?lose_data={lose_data}");
        let (_, body) = self.ask_within(DISMISS_PATIENCE, Method::DELETE, &path, None).await?;
        self.parse(&body)
    }

    /// `POST` to `path` without a body, such as `/v1/buckets/NAME`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn post(&self, path: &str) -> Result<(), ControlError> {
        self.ask(Method::POST, path, None).await.map(|_| ())
    }

    /// `GET` of any path whose answer is JSON.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        let (_, body) = self.ask(Method::GET, path, None).await?;
        self.parse(&body)
    }

    /// `GET /v1/events`: tells each event, until the node ends the stream: behind the kept ones unless they are followed, else when it stops.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn events(&self, follow: bool, mut tell: impl FnMut(Streamed)) -> Result<(), ControlError> {
        let request = request(Method::GET, &format!("/v1/events?follow={follow}"), None);
        let exchange = async |response: Response<Incoming>| {
            let response = self.refused_or(response).await?;
            let (mut body, mut rest) = (response.into_body(), BytesMut::new());
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(|error| self.broken(error))?.into_data() else { continue };
                rest.extend_from_slice(&data);
                while let Some(streamed) = next_event(&mut rest) {
                    tell(streamed);
                }
                if rest.len() > ANSWER_LEN_BYTES_MAX {
                    return Err(self.broken("an event that does not end"));
                }
            }
            Ok(())
        };
        self.exchange(request, exchange).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(StatusCode, Bytes), ControlError> {
        self.ask_within(PATIENCE, method, path, body).await
    }

    async fn ask_within(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(StatusCode, Bytes), ControlError> {
        let exchange = async |response: Response<Incoming>| {
            let response = self.refused_or(response).await?;
            let status = response.status();
            Ok((status, self.whole(response).await?))
        };
        let exchange = self.exchange(request(method, path, body), exchange);
        match tokio::time::timeout(patience, exchange).await {
            Ok(result) => result,
            Err(_) => Err(self.broken(format!("none within {} s", patience.as_secs()))),
        }
    }

    /// Sends a request on a connection of its own and has `take` take the answer.
    async fn exchange<T>(
        &self,
        request: Request<Full<Bytes>>,
        take: impl AsyncFnOnce(Response<Incoming>) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|source| ControlError::Unreachable { path: self.path.clone(), source })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
            take(response).await
        };
        // The connection is driven here and ends with this call.
        tokio::pin!(connection);
        tokio::pin!(exchange);
        tokio::select! {
            result = &mut exchange => result,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(self.broken(error)),
            },
        }
    }

    async fn refused_or(&self, response: Response<Incoming>) -> Result<Response<Incoming>, ControlError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.whole(response).await?;
        Err(match serde_json::from_slice(&body) {
            Ok(problem) => ControlError::Refused(Box::new(problem)),
            Err(_) => self.broken(format!("status {status}")),
        })
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, ControlError> {
        let collected = Limited::new(response.into_body(), ANSWER_LEN_BYTES_MAX).collect().await;
        Ok(collected.map_err(|error| self.broken(error))?.to_bytes())
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ControlError> {
        serde_json::from_slice(body).map_err(|error| self.broken(error))
    }

    fn broken(&self, reason: impl ToString) -> ControlError {
        ControlError::Broken { path: self.path.clone(), reason: reason.to_string() }
    }
}

fn json_of(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("an order is plain data")
}

fn request(method: Method, path: &str, body: Option<Vec<u8>>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "strongroom");
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = Full::new(Bytes::from(body.unwrap_or_default()));
    request.body(body).expect("methods are constants, and paths are made of names and numbers")
}

/// Takes the next whole event out of what has come; `None` while there is none. Comments, which keep the stream alive, are none.
fn next_event(rest: &mut BytesMut) -> Option<Streamed> {
    loop {
        let end = rest.windows(2).position(|two| two == b"\n\n")?;
        let block = rest.split_to(end + 2);
        let text = String::from_utf8_lossy(&block);
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            lines.next().map(str::trim_start).unwrap_or_default().to_owned()
        };
        if let Ok(data) = serde_json::from_str(&field("data")) {
            return Some(Streamed { id: field("id"), kind: field("event"), data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Streamed, next_event};
    use bytes::BytesMut;

    #[test]
    fn events_are_taken_out_of_a_stream_whole_wherever_it_is_cut() {
        let text = ": alive\n\nid: 7-1\nevent: node_up\ndata: {\"node\":3}\n\nevent: lost\ndata: {\"lost\":2}\n\n:\n\n";
        let expected = [
            Streamed {
                id: String::from("7-1"),
                kind: String::from("node_up"),
                data: serde_json::json!({"node": 3}),
            },
            Streamed { id: String::new(), kind: String::from("lost"), data: serde_json::json!({"lost": 2}) },
        ];
        for cut in 0..text.len() {
            let (mut rest, mut found) = (BytesMut::new(), Vec::new());
            for part in [&text[..cut], &text[cut..]] {
                rest.extend_from_slice(part.as_bytes());
                found.extend(std::iter::from_fn(|| next_event(&mut rest)));
            }
            assert_eq!(found, expected, "cut at {cut}");
            assert!(rest.is_empty());
        }
    }
}
