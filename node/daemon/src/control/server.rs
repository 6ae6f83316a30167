//! Serves the control socket.

use crate::node::Node;
use crate::status::Problem;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use strongroom_gateway::store::{ObjectStore, StoreError};
use strongroom_types::{BucketClass, BucketName};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

/// Connections at once at most; an operator needs one.
const CONNECTIONS_MAX: usize = 16;
/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("control socket {path}: {source}")]
pub struct SocketError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// Makes the socket, mode 0600. One that a dead process left behind is replaced; the drives' locks keep two living nodes apart.
///
/// # Errors
/// The path cannot be used.
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let error = |source| SocketError { path: path.to_owned(), source };
    // Only a socket is taken away: a path that names something else by mistake must not cost a file.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(path).map_err(error)?;
    }
    let listener = UnixListener::bind(path).map_err(error)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(error)?;
    Ok(listener)
}

/// Answers until the runtime ends.
pub async fn serve(listener: UnixListener, node: Arc<Node>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: at once would be a loop that eats the core.
                tracing::warn!(%error, "control socket: accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !is_allowed(&stream) {
            continue;
        }
        let node = node.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let node = node.clone();
                async move { Ok::<_, Infallible>(answer(&node, &request).await) }
            });
            // A client that breaks off has nobody to be told.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

/// Only root and the user that the node runs as, whatever the mode of the folder says.
fn is_allowed(stream: &tokio::net::UnixStream) -> bool {
    let Ok(peer) = stream.peer_cred() else { return false };
    let own = nix::unistd::Uid::effective().as_raw();
    let allowed = peer.uid() == 0 || peer.uid() == own;
    if !allowed {
        tracing::warn!(uid = peer.uid(), "control socket: connection of another user refused");
    }
    allowed
}

async fn answer(node: &Arc<Node>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/status") => json(StatusCode::OK, &node.status()),
        (&Method::GET, "/v1/ready") => {
            let status = node.status();
            match status.ready {
                true => json(StatusCode::OK, &status.ready),
                false => problem(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "not ready",
                    &status.not_ready_because.join("; "),
                ),
            }
        }
        (&Method::POST, "/v1/jobs/seal") => {
            node.seal_now().await;
            json(StatusCode::ACCEPTED, &"sealing")
        }
        (&Method::POST, "/v1/jobs/convert") => {
            node.convert_now();
            json(StatusCode::ACCEPTED, &"converting")
        }
        (&Method::POST, path) if path.starts_with(BUCKETS) => create_bucket(node, request).await,
        (_, "/v1/status" | "/v1/ready") => {
            problem(StatusCode::METHOD_NOT_ALLOWED, "wrong method", "this path takes GET")
        }
        (_, "/v1/jobs/seal" | "/v1/jobs/convert") => {
            problem(StatusCode::METHOD_NOT_ALLOWED, "wrong method", "this path takes POST")
        }
        (_, path) => {
            let detail = format!(
                "{path}: there is GET /v1/status and /v1/ready, POST /v1/buckets/NAME, /v1/jobs/seal and /v1/jobs/convert"
            );
            problem(StatusCode::NOT_FOUND, "no such path", &detail)
        }
    }
}

const BUCKETS: &str = "/v1/buckets/";

async fn create_bucket(node: &Arc<Node>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let name = request.uri().path().strip_prefix(BUCKETS).unwrap_or_default();
    let name = match BucketName::new(name) {
        Ok(name) => name,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "bad bucket name", &error.to_string()),
    };
    let class = match request.uri().query() {
        None | Some("class=mail") => BucketClass::Mail,
        Some("class=config") => BucketClass::Config,
        Some(other) => {
            return problem(
                StatusCode::BAD_REQUEST,
                "bad query",
                &format!("{other}: expected class=mail or class=config"),
            );
        }
    };
    match node.store().create_bucket(name, class).await {
        Ok(info) => json(StatusCode::CREATED, &info.name.as_str()),
        Err(error @ (StoreError::BucketExists(_) | StoreError::BucketClassDiffers(_))) => {
            problem(StatusCode::CONFLICT, "bucket exists", &error.to_string())
        }
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, "bucket not made", &error.to_string()),
    }
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let text = serde_json::to_vec(body).expect("status is plain data");
    with_type(status, "application/json", text)
}

fn problem(status: StatusCode, title: &str, detail: &str) -> Response<Full<Bytes>> {
    let problem = Problem { title: title.into(), status: status.as_u16(), detail: detail.into() };
    let text = serde_json::to_vec(&problem).expect("a problem is plain data");
    with_type(status, "application/problem+json", text)
}

fn with_type(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static(content_type));
    response
}
