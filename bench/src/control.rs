//! Asks a Strongroom node's control socket how many bytes its drives hold.
//!
//! The status document is read for one thing, `drives[].bytes_used`; whatever else is in it does not matter here. Other servers
//! have no such socket, and a node that does not answer costs one column of the table, never the run.

use crate::limits::{STATUS_LEN_BYTES_MAX, STATUS_WAIT_MAX};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// Why a node did not say.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket cannot be reached.
    #[error("control socket {}: cannot connect", path.display())]
    Connect {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// HTTP broke off, or the answer is longer than it may be.
    #[error("control socket {}: no whole answer", path.display())]
    Http {
        /// Which.
        path: PathBuf,
        /// What broke.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another answer than 200.
    #[error("control socket {}: /v1/status answered {status}", path.display())]
    Refused {
        /// Which.
        path: PathBuf,
        /// With what.
        status: StatusCode,
    },
    /// The answer is not the document expected.
    #[error("control socket {}: expected JSON with drives[].bytes_used", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
    /// No answer in time.
    #[error("control socket {}: no answer in {STATUS_WAIT_MAX:?}", path.display())]
    Late {
        /// Which.
        path: PathBuf,
    },
}

#[derive(Deserialize)]
struct Status {
    drives: Vec<Drive>,
}

#[derive(Deserialize)]
struct Drive {
    bytes_used: u64,
}

/// Bytes used on all drives of the nodes behind `sockets`.
///
/// # Errors
/// When one of them does not tell.
pub async fn drive_bytes_used(sockets: &[PathBuf]) -> Result<u64, ControlError> {
    let mut total = 0u64;
    for path in sockets {
        let asked = tokio::time::timeout(STATUS_WAIT_MAX, one(path)).await;
        total = total.saturating_add(asked.map_err(|_| ControlError::Late { path: path.clone() })??);
    }
    Ok(total)
}

async fn one(path: &Path) -> Result<u64, ControlError> {
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| ControlError::Http {
        path: path.to_owned(),
        source,
    };
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| ControlError::Connect { path: path.to_owned(), source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(error.into()))?;
    let asking = async move {
        let request = Request::get("/v1/status")
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())
            .expect("constant parts make a request");
        let response = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
        if response.status() != StatusCode::OK {
            return Err(ControlError::Refused { path: path.to_owned(), status: response.status() });
        }
        let body =
            Limited::new(response.into_body(), STATUS_LEN_BYTES_MAX).collect().await.map_err(broken)?;
        let status: Status = serde_json::from_slice(&body.to_bytes())
            .map_err(|source| ControlError::Malformed { path: path.to_owned(), source })?;
        Ok(status.drives.iter().fold(0u64, |sum, drive| sum.saturating_add(drive.bytes_used)))
    };
    // The connection has to be driven while the answer is awaited. It ends once the sender is dropped with `asking`, and whatever
    // breaks it is seen by the request as well.
    let (answer, _) = tokio::join!(asking, connection);
    answer
}

#[cfg(test)]
mod tests {
    use super::{ControlError, drive_bytes_used};
    use std::path::PathBuf;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// Asks a socket that answers every request with `answer`.
    fn ask(answer: &'static str) -> Result<u64, ControlError> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("control");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = UnixListener::bind(&path).unwrap();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut request = [0; 1024];
                    let count = stream.read(&mut request).await.unwrap();
                    assert!(request[..count].starts_with(b"GET /v1/status HTTP/1.1\r\n"));
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
            drive_bytes_used(&[path.clone(), path]).await
        })
    }

    #[test]
    fn drives_of_all_nodes_are_added_up() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 58\r\n\r\n{\"drives\":[{\"bytes_used\":5},{\"bytes_used\":7,\"x\":1}],\"y\":0}";
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len(), 58);
        assert_eq!(ask(answer).unwrap(), 24);
    }

    #[test]
    fn what_is_no_status_is_refused() {
        assert!(matches!(
            ask("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
            Err(ControlError::Refused { .. })
        ));
        assert!(matches!(
            ask("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
            Err(ControlError::Malformed { .. })
        ));
        assert!(matches!(
            ask("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"),
            Err(ControlError::Http { .. })
        ));
        assert!(matches!(
            ask("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n{}"),
            Err(ControlError::Http { .. })
        ));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let absent = runtime.block_on(drive_bytes_used(&[PathBuf::from("absent/control")]));
        assert!(matches!(absent, Err(ControlError::Connect { .. })));
    }
}
