//! Making a file that stands for a drive.
//!
//! The file is written under another name and gets its own when it is whole and durable, so that a crash in
//! between leaves no drive of half the length. What such a crash left behind is taken over by the next
//! attempt.

use super::{OpenError, lock};
use crate::buffer::AlignedBuffer;
use crate::limits::CREATE_CHUNK_LEN_BYTES;
use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, fallocate, renameat2};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Writes `len_bytes` zeros and then lets `path` name them.
pub(super) fn create(
    path: &Path,
    len_bytes: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), OpenError> {
    let draft_path = draft_path(path);
    let draft = open_draft(&draft_path)?;
    draft.set_len(0).map_err(OpenError::io(&draft_path, "emptied"))?;
    reserve(&draft, len_bytes).map_err(OpenError::io(&draft_path, "given its space"))?;

    let chunk = AlignedBuffer::zeroed(CREATE_CHUNK_LEN_BYTES);
    let mut written_bytes = 0;
    progress(written_bytes, len_bytes);
    while written_bytes < len_bytes {
        let now_bytes = (len_bytes - written_bytes).min(chunk.len() as u64);
        draft
            .write_all_at(&chunk[..now_bytes as usize], written_bytes)
            .map_err(OpenError::io(&draft_path, "written"))?;
        written_bytes += now_bytes;
        progress(written_bytes, len_bytes);
    }
    draft.sync_all().map_err(OpenError::io(&draft_path, "made durable"))?;

    // The file is durable before its name is; the lock goes with `draft`, and whoever opens the drive takes
    // it anew.
    renameat2(AT_FDCWD, &draft_path, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE)
        .map_err(|errno| OpenError::io(path, "named")(errno.into()))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(OpenError::io(folder, "made durable"))
}

fn draft_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(".creating");
    name.into()
}

/// Opens the draft for this process alone. Whoever had it before may have finished and renamed it between the
/// open and the lock: then what was opened is a drive by now, and must not be touched.
fn open_draft(draft_path: &Path) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let open =
        |flags| options.clone().custom_flags(flags | libc::O_CLOEXEC | libc::O_NOFOLLOW).open(draft_path);
    let draft = match open(libc::O_DIRECT) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => open(0),
        other => other,
    };
    let draft = draft.map_err(OpenError::io(draft_path, "created"))?;
    lock(&draft, draft_path)?;
    let opened = draft.metadata().map_err(OpenError::io(draft_path, "looked at"))?;
    match std::fs::metadata(draft_path) {
        Ok(named) if (named.dev(), named.ino()) == (opened.dev(), opened.ino()) => Ok(draft),
        Ok(_) | Err(_) => Err(OpenError::Changed { path: draft_path.to_owned() }),
    }
}

/// Says early that there is not enough space, and gets it in one piece. Not needed where the file system
/// cannot.
fn reserve(draft: &File, len_bytes: u64) -> io::Result<()> {
    let len_bytes = i64::try_from(len_bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    match fallocate(draft, FallocateFlags::empty(), 0, len_bytes) {
        Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
