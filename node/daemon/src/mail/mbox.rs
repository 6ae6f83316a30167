//! Mail in an mbox file, one message at a time.
//!
//! `mail-parser` splits at each line that starts with `From ` and takes one `>` off quoted ones. What is kept here is the bound:
//! a message is collected in memory, so a file without a second `From ` line must not be.

use super::{MAIL_LEN_BYTES_MAX, Mail, MailError, tree};
use bytes::Bytes;
use mail_parser::mailbox::mbox::MessageIterator;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The messages of an mbox. After an error there are no more: where the next one starts is not known.
pub(super) struct Messages {
    path: PathBuf,
    name: String,
    /// `None` once an error was handed out.
    messages: Option<MessageIterator<Bounded>>,
    /// Bytes that were read since the last message was handed out.
    pending_len_bytes: Arc<AtomicU64>,
    count: u64,
}

impl Messages {
    /// The messages that `reader`, placed at the start of `path`, holds.
    ///
    /// # Errors
    /// When the start cannot be read, or the name of the file cannot begin an object key.
    pub(super) fn new(path: &Path, mut reader: BufReader<File>) -> Result<Self, MailError> {
        let start = reader.fill_buf().map_err(|source| MailError::read(path, source))?;
        // Else the first "From " would not stand at the start of its line.
        let mark_len_bytes = if start.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        reader.consume(mark_len_bytes);
        let pending_len_bytes = Arc::new(AtomicU64::new(0));
        let bounded = Bounded { reader, pending_len_bytes: pending_len_bytes.clone() };
        Ok(Self {
            path: path.to_owned(),
            name: tree::object_name(path, Path::new(path.file_stem().unwrap_or(path.as_os_str())))?,
            messages: Some(MessageIterator::new(bounded)),
            pending_len_bytes,
            count: 0,
        })
    }
}

impl Iterator for Messages {
    type Item = Result<Mail, MailError>;

    fn next(&mut self) -> Option<Self::Item> {
        let message = self.messages.as_mut()?.next();
        self.pending_len_bytes.store(0, Ordering::Relaxed);
        match message? {
            Ok(message) => {
                let name = format!("{}/{:06}.eml", self.name, self.count);
                self.count += 1;
                Some(Ok(Mail { name, bytes: without_separator(message.unwrap_contents()) }))
            }
            Err(error) => {
                self.messages = None;
                let path = self.path.clone();
                let too_long = error.kind() == io::ErrorKind::FileTooLarge;
                Some(Err(if too_long { MailError::TooLong { path } } else { MailError::read(&path, error) }))
            }
        }
    }
}

/// A message without the empty line that sets it apart from the next `From `.
fn without_separator(contents: Vec<u8>) -> Bytes {
    let contents = Bytes::from(contents);
    let separator_len_bytes = if contents.ends_with(b"\n\r\n") {
        2
    } else if contents.ends_with(b"\n\n") {
        1
    } else {
        0
    };
    contents.slice(..contents.len() - separator_len_bytes)
}

/// A reader that fails when more than one mail's bytes were taken since the count was last set to 0.
struct Bounded {
    reader: BufReader<File>,
    pending_len_bytes: Arc<AtomicU64>,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(into.len());
        into[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Bounded {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.pending_len_bytes.load(Ordering::Relaxed) > MAIL_LEN_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.pending_len_bytes.fetch_add(count as u64, Ordering::Relaxed);
        self.reader.consume(count);
    }
}
