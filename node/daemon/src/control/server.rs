//! Serves the control socket, and metrics and health over TCP where that is configured.

use super::routes;
use crate::limits::{
    CONTROL_CONNECTIONS_MAX, CONTROL_HEAD_LEN_BYTES_MAX, CONTROL_HEAD_PATIENCE, METRICS_CONNECTIONS_MAX,
};
use crate::node::Node;
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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

/// Makes the socket, mode 0600. One that a dead process left behind is replaced.
///
/// # Errors
/// The path cannot be used, or somebody answers there: another node's socket is not taken over.
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let error = |source| SocketError { path: path.to_owned(), source };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(error(std::io::ErrorKind::AddrInUse.into()));
    }
    // Only a socket is taken away: a path that names something else by mistake must not cost a file.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(path).map_err(error)?;
    }
    let listener = UnixListener::bind(path).map_err(error)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(error)?;
    Ok(listener)
}

/// Answers on the control socket until the runtime ends.
pub async fn serve(listener: UnixListener, node: Arc<Node>) {
    let router = routes::control(node);
    let places = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) if is_allowed(&stream) => answer(stream, router.clone(), place),
            Ok(_) => {}
            Err(error) => pause(&error).await,
        }
    }
}

/// Answers scrapes and health checks until the runtime ends.
pub async fn serve_metrics(listener: TcpListener, node: Arc<Node>) {
    let router = routes::scraped(node);
    let places = Arc::new(Semaphore::new(METRICS_CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => answer(stream, router.clone(), place),
            Err(error) => pause(&error).await,
        }
    }
}

/// Out of descriptors, most likely: at once would be a loop that eats the core.
async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "control: accept failed");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn answer<I>(stream: I, router: Router, place: OwnedSemaphorePermit)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        // A client that breaks off has nobody to be told.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(CONTROL_HEAD_PATIENCE)
            .max_buf_size(CONTROL_HEAD_LEN_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
            .await;
        drop(place);
    });
}

/// Only root and the user that the node runs as, whatever the mode of the folder says.
fn is_allowed(stream: &UnixStream) -> bool {
    let Ok(peer) = stream.peer_cred() else { return false };
    let own = nix::unistd::Uid::effective().as_raw();
    let allowed = peer.uid() == 0 || peer.uid() == own;
    if !allowed {
        tracing::warn!(uid = peer.uid(), "control socket: connection of another user refused");
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::bind;
    use std::io::ErrorKind;

    #[tokio::test]
    async fn a_dead_ones_socket_is_replaced_and_a_living_ones_and_a_file_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let living = bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().source.kind(), ErrorKind::AddrInUse);
        drop(living);
        drop(bind(&path).unwrap());
        let file = dir.path().join("notes");
        std::fs::write(&file, "of value").unwrap();
        assert!(bind(&file).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "of value");
    }
}
