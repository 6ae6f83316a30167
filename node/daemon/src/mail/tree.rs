//! Mail that lies in files: a folder of any shape, or a Maildir.

use super::limits::DEPTH_MAX;
use super::{MAIL_LEN_BYTES_MAX, Mail, MailError, MailFormat, NAME_LEN_BYTES_MAX};
use bytes::Bytes;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// Endings of files that tell about mail, or make it, and are none themselves.
const ABOUT_ENDINGS: [&str; 5] = ["md", "py", "sh", "pl", "rb"];
/// What the names of licences and read-me files hold, in capitals.
const ABOUT_NAMES: [&str; 4] = ["LICEN", "COPYING", "README", "NOTICE"];

/// Whether `path` is a Maildir.
pub(super) fn is_maildir(path: &Path) -> bool {
    path.join("cur").is_dir() && path.join("new").is_dir()
}

/// The files of a folder that are mail, by name.
pub(super) struct Files {
    root: PathBuf,
    format: MailFormat,
    walk: walkdir::IntoIter,
    /// The first mail, read when the source was opened to know that there is one.
    first: Option<Result<Mail, MailError>>,
    skipped_count: u64,
}

impl Files {
    /// # Errors
    /// When `root` holds no mail at all.
    pub(super) fn open(root: &Path, format: MailFormat) -> Result<Self, MailError> {
        let walk = WalkDir::new(root).max_depth(DEPTH_MAX).sort_by_file_name().into_iter();
        let mut files = Self { root: root.to_owned(), format, walk, first: None, skipped_count: 0 };
        files.first = files.step();
        match &files.first {
            Some(_) => Ok(files),
            None => Err(MailError::Empty { path: root.to_owned() }),
        }
    }

    pub(super) fn skipped_count(&self) -> u64 {
        self.skipped_count
    }

    fn step(&mut self) -> Option<Result<Mail, MailError>> {
        while let Some(entry) = self.walk.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(self.unreadable(error))),
            };
            if entry.depth() == 0 {
                continue;
            }
            if entry.file_type().is_dir() {
                if entry.depth() == DEPTH_MAX {
                    self.walk.skip_current_dir();
                    return Some(Err(MailError::NameTooLong { path: entry.into_path() }));
                }
                if self.format == MailFormat::Tree && is_hidden(entry.file_name()) {
                    self.skipped_count += 1;
                    self.walk.skip_current_dir();
                }
            } else if entry.file_type().is_file() {
                if self.is_wanted(&entry) {
                    return Some(self.read(entry.path()));
                }
                self.skipped_count += 1;
            } else {
                self.skipped_count += 1;
            }
        }
        None
    }

    fn is_wanted(&self, entry: &DirEntry) -> bool {
        if is_hidden(entry.file_name()) {
            return false;
        }
        if self.format == MailFormat::Maildir {
            let folder = entry.path().parent().and_then(Path::file_name);
            return folder == Some(OsStr::new("cur")) || folder == Some(OsStr::new("new"));
        }
        !is_about_the_files(Path::new(entry.file_name()))
    }

    fn read(&self, path: &Path) -> Result<Mail, MailError> {
        let below_root = path.strip_prefix(&self.root).expect("the walk stays below its root");
        Ok(Mail { name: object_name(path, below_root)?, bytes: read_bounded(path)? })
    }

    fn unreadable(&self, error: walkdir::Error) -> MailError {
        let path = error.path().unwrap_or(&self.root).to_owned();
        let source = error.into_io_error().unwrap_or_else(|| io::Error::other("a loop of links"));
        MailError::Read { path, source }
    }
}

impl Iterator for Files {
    type Item = Result<Mail, MailError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.first.take().or_else(|| self.step())
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_about_the_files(name: &Path) -> bool {
    let capitals = name.to_string_lossy().to_ascii_uppercase();
    let ending = name.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    ABOUT_NAMES.iter().any(|word| capitals.contains(word))
        || ending.is_some_and(|ending| ABOUT_ENDINGS.contains(&ending.as_str()))
}

/// The whole of a file that is a mail.
///
/// # Errors
/// When it cannot be read or is longer than a mail may be.
pub(super) fn read_bounded(path: &Path) -> Result<Bytes, MailError> {
    let fail = |source| MailError::read(path, source);
    let mut file = File::open(path).map_err(fail)?;
    let len_bytes = file.metadata().map_err(fail)?.len();
    let too_long = || MailError::TooLong { path: path.to_owned() };
    if len_bytes > MAIL_LEN_BYTES_MAX {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len_bytes).expect("bounded above"));
    // The file may grow while it is read: the bound holds for what is read, not for what it was.
    file.by_ref().take(MAIL_LEN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAIL_LEN_BYTES_MAX { Err(too_long()) } else { Ok(bytes.into()) }
}

/// `below` as an object key: `/` between folders, and `%XX` for each byte that is a control character, not UTF-8, or `%`
/// itself, so that no two files share a name. `path` is for the error alone.
///
/// # Errors
/// When the name is longer than an object key.
pub(super) fn object_name(path: &Path, below: &Path) -> Result<String, MailError> {
    let mut name = String::new();
    for chunk in below.as_os_str().as_encoded_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_ascii_control() || character == '%' {
                escape(&mut name, character as u8);
            } else {
                name.push(character);
            }
        }
        chunk.invalid().iter().for_each(|&byte| escape(&mut name, byte));
    }
    if name.len() > NAME_LEN_BYTES_MAX {
        return Err(MailError::NameTooLong { path: path.to_owned() });
    }
    Ok(name)
}

fn escape(name: &mut String, byte: u8) {
    write!(name, "%{byte:02X}").expect("a String takes all that is written");
}
