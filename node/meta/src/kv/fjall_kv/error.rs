//! What errors of fjall mean.

use crate::kv::media::is_refusal;
use crate::kv::{KvError, KvErrorKind};
use fjall::LsmError;
use std::io;

/// An error of a read.
pub(super) fn error(context: &'static str) -> impl FnOnce(fjall::Error) -> KvError {
    move |source| KvError { context, kind: kind_of(&source), source: Box::new(source) }
}

/// Whether an error of a read means that bytes on the media are not what was written.
fn kind_of(error: &fjall::Error) -> KvErrorKind {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => kind_of_io(error),
        fjall::Error::InvalidVersion(Some(_)) | fjall::Error::Storage(LsmError::InvalidVersion(_)) => {
            KvErrorKind::OtherVersion
        }
        fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted | fjall::Error::Locked => KvErrorKind::Failed,
        _ => KvErrorKind::Damaged,
    }
}

pub(super) fn kind_of_io(error: &io::Error) -> KvErrorKind {
    match error.kind() {
        // A file that must be there is not, or ends early. All else may be well another time.
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
            KvErrorKind::Damaged
        }
        _ if is_refusal(error) => KvErrorKind::Damaged,
        _ => KvErrorKind::Failed,
    }
}

/// Reads; a second time where the media refuses (see `media`).
pub(super) fn reading<T>(
    context: &'static str,
    mut read: impl FnMut() -> fjall::Result<T>,
) -> Result<T, KvError> {
    let refused = match read() {
        Err(fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error))) if is_refusal(&error) => {
            error
        }
        done => return done.map_err(error(context)),
    };
    tracing::warn!(context, %refused, "the state directory's media does not give back what was written; it is asked once more");
    read().map_err(error(context))
}

/// An error of a write: never damage, since nothing was read.
pub(super) fn failed(
    context: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> KvError {
    KvError { context, kind: KvErrorKind::Failed, source: Box::new(source) }
}
