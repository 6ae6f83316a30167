//! What the host has: commands on its path, and files at fixed places.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where Debian keeps commands that are often not on an ordinary user's path.
const SYSTEM_FOLDERS: [&str; 3] = ["usr/sbin", "sbin", "usr/bin"];

/// Something that a step needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A command by this name.
    Command(&'static str),
    /// A file or folder at this place below the root.
    File(&'static str),
}

/// A host to look at.
pub struct Host {
    root: PathBuf,
    folders: Vec<PathBuf>,
}

impl Host {
    /// This one.
    pub fn here() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::new(Path::new("/"), std::env::split_paths(&path))
    }

    /// A host whose files lie below `root`, with `path` to look for commands besides the system's own folders.
    pub fn new(root: &Path, path: impl Iterator<Item = PathBuf>) -> Self {
        let folders = path.chain(SYSTEM_FOLDERS.map(|folder| root.join(folder))).collect();
        Self { root: root.to_owned(), folders }
    }

    /// Whether it has what is needed.
    pub fn has(&self, need: Need) -> bool {
        match need {
            Need::Command(name) => self.folders.iter().any(|folder| is_executable(&folder.join(name))),
            Need::File(place) => self.root.join(place).exists(),
        }
    }
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
