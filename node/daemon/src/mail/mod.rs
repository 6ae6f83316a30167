//! Mail to store: a folder of files, a Maildir, an mbox, or mail made up from a seed.
//!
//! `strongroom demo` and the load generator take their objects from here. A source is read one mail at a time, in an order that
//! depends on names alone, and the bytes of a file are handed on as they are: whoever stores them can compare byte for byte.
//! Nothing is parsed beyond what tells the formats apart.

mod limits;

mod generate;
mod mbox;
mod tree;

#[cfg(test)]
mod tests;

pub use generate::{Generated, generate};
pub use limits::{MAIL_LEN_BYTES_MAX, NAME_LEN_BYTES_MAX};

use bytes::Bytes;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// One mail, or one file that lay beside mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Unique within its source, and usable as an object key.
    pub name: String,
    /// The bytes to store.
    pub bytes: Bytes,
}

/// Why mail cannot be taken from a path.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The file system refused.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// Which file or folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Neither a folder nor a file that holds mail.
    #[error(
        "{}: not mail: expected a folder of mail files, a Maildir (with cur and new), an mbox (first line \"From \") or one \
         message (first line a header)",
        path.display()
    )]
    NotMail {
        /// What was opened.
        path: PathBuf,
    },
    /// A folder without a single mail in it.
    #[error("{}: holds no mail: expected at least one file in it", path.display())]
    Empty {
        /// What was opened.
        path: PathBuf,
    },
    /// One mail is longer than is taken.
    #[error("{}: one mail is longer than {MAIL_LEN_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// The file it is in.
        path: PathBuf,
    },
    /// A path is too long to be an object key.
    #[error("{}: its name is longer than the {NAME_LEN_BYTES_MAX} bytes of an object key", path.display())]
    NameTooLong {
        /// Which file.
        path: PathBuf,
    },
}

impl MailError {
    fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }
}

/// What a path turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailFormat {
    /// A folder of files, each stored as it is.
    Tree,
    /// A Maildir, with its subfolders.
    Maildir,
    /// An mbox file.
    Mbox,
    /// One file with one message.
    Message,
}

/// An iterator over the mail at a path.
pub struct MailSource {
    format: MailFormat,
    mails: Mails,
}

enum Mails {
    Files(tree::Files),
    Mbox(mbox::Messages),
    One(Option<Mail>),
}

impl MailSource {
    /// Opens `path` and finds out by its content what it is.
    ///
    /// Of a folder every regular file is taken, whatever its name says, except hidden ones and what speaks about the files
    /// instead of being one of them (licences, read-me files, scripts); [`MailSource::skipped_count`] counts those. Symbolic
    /// links inside a folder are not followed. Of a Maildir the files in `cur` and `new` are taken, those in `tmp` are not.
    ///
    /// # Errors
    /// When `path` cannot be read, holds no mail, or is a file of another kind.
    pub fn open(path: &Path) -> Result<Self, MailError> {
        let found = std::fs::metadata(path).map_err(|source| MailError::read(path, source))?;
        if found.is_dir() {
            let maildir = tree::is_maildir(path);
            let format = if maildir { MailFormat::Maildir } else { MailFormat::Tree };
            let files = tree::Files::open(path, format)?;
            return Ok(Self { format, mails: Mails::Files(files) });
        }
        if !found.is_file() {
            return Err(MailError::NotMail { path: path.to_owned() });
        }
        let file = File::open(path).map_err(|source| MailError::read(path, source))?;
        let mut reader = BufReader::with_capacity(limits::READ_BUFFER_LEN_BYTES, file);
        let start = reader.fill_buf().map_err(|source| MailError::read(path, source))?;
        match sniff(start) {
            Some(MailFormat::Mbox) => {
                Ok(Self { format: MailFormat::Mbox, mails: Mails::Mbox(mbox::Messages::new(path, reader)?) })
            }
            Some(_) => {
                let bytes = tree::read_bounded(path)?;
                let name = tree::object_name(path, Path::new(path.file_name().unwrap_or(path.as_os_str())))?;
                Ok(Self { format: MailFormat::Message, mails: Mails::One(Some(Mail { name, bytes })) })
            }
            None => Err(MailError::NotMail { path: path.to_owned() }),
        }
    }

    /// What the path turned out to be.
    pub fn format(&self) -> MailFormat {
        self.format
    }

    /// How many files (or hidden folders) were left out so far.
    pub fn skipped_count(&self) -> u64 {
        match &self.mails {
            Mails::Files(files) => files.skipped_count(),
            Mails::Mbox(_) | Mails::One(_) => 0,
        }
    }
}

impl Iterator for MailSource {
    type Item = Result<Mail, MailError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.mails {
            Mails::Files(files) => files.next(),
            Mails::Mbox(messages) => messages.next(),
            Mails::One(mail) => mail.take().map(Ok),
        }
    }
}

/// Tells an mbox from one message by the first bytes of a file. A byte order mark before them changes nothing.
fn sniff(start: &[u8]) -> Option<MailFormat> {
    let start = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start);
    if start.starts_with(b"From ") {
        return Some(MailFormat::Mbox);
    }
    // RFC 5322, 2.2: a field name is printable ASCII without the colon that ends it.
    let colon = start.iter().position(|byte| !matches!(byte, b'!'..=b'9' | b';'..=b'~'))?;
    (colon > 0 && start[colon] == b':').then_some(MailFormat::Message)
}
