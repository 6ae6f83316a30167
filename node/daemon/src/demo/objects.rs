//! What a demo stores, and what it remembers of it to compare with.

use crate::mail::{Generated, Mail, MailError, MailSource};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A finite source of mail that can tell how much there is.
pub struct Mails {
    count: u64,
    bytes: u64,
    prefix: &'static str,
    source: Box<dyn Iterator<Item = Result<Mail, MailError>> + Send>,
}

impl Mails {
    /// Mail at a path; read once now to know how much there is, then again to store it.
    ///
    /// # Errors
    /// The path holds no mail, or some of it cannot be read.
    pub fn at(path: &Path, prefix: &'static str) -> Result<Self, MailError> {
        let (mut count, mut bytes) = (0, 0);
        for mail in MailSource::open(path)? {
            count += 1;
            bytes += mail?.bytes.len() as u64;
        }
        Ok(Self { count, bytes, prefix, source: Box::new(MailSource::open(path)?) })
    }

    /// Mail made up from a seed.
    pub fn generated(seed: u64, count: u64, prefix: &'static str) -> Self {
        let source: Generated = crate::mail::generate(seed, count);
        let bytes = (0..count).map(|index| source.len_bytes(index) as u64).sum();
        Self { count, bytes, prefix, source: Box::new(source.map(Ok)) }
    }

    /// The first `count` of these.
    pub fn take(self, count: u64) -> Self {
        let count = count.min(self.count);
        let source = Box::new(self.source.take(usize::try_from(count).unwrap_or(usize::MAX)));
        Self { count, source, ..self }
    }

    /// How many.
    pub fn message_count(&self) -> u64 {
        self.count
    }

    /// Bytes of all of them (before [`Self::take`]).
    pub fn len_bytes(&self) -> u64 {
        self.bytes
    }
}

impl Iterator for Mails {
    type Item = Result<(String, Mail), MailError>;
    fn next(&mut self) -> Option<Self::Item> {
        let mail = self.source.next()?;
        Some(mail.map(|mail| (format!("{}/{}", self.prefix, mail.name), mail)))
    }
}

/// An object that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: String,
    /// Its length.
    pub len_bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

impl Stored {
    /// What is remembered of these bytes.
    pub fn of(key: String, bytes: &[u8]) -> Self {
        Self { key, len_bytes: bytes.len() as u64, sha256: sha256(bytes) }
    }

    /// Whether these bytes are what was stored.
    pub fn is(&self, bytes: &[u8]) -> bool {
        self.len_bytes == bytes.len() as u64 && self.sha256 == sha256(bytes)
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Where a demo's mail comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A path.
    At(PathBuf),
    /// A seed and a count.
    Generated {
        /// The seed.
        seed: u64,
        /// How many.
        count: u64,
    },
}

impl Origin {
    /// The mail, its keys below `prefix`.
    ///
    /// # Errors
    /// The path holds no mail.
    pub fn mails(&self, prefix: &'static str) -> Result<Mails, MailError> {
        match self {
            Self::At(path) => Mails::at(path, prefix),
            Self::Generated { seed, count } => Ok(Mails::generated(*seed, *count, prefix)),
        }
    }
}
