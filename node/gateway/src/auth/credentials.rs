//! Keys of callers.

use std::fmt;

/// Who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The access key that signed.
    pub access_key: String,
    /// Whom it belongs to, for the audit log.
    pub name: String,
}

/// A secret access key; never shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The secret with this text.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The text, for the one place that derives signing keys from it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A key and its owner.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The secret that signs.
    pub secret: Secret,
    /// Who is let in by it.
    pub caller: Caller,
}

/// Finds keys. Answers from memory: it is asked once for every request, before anything of it is trusted.
pub trait Credentials: Send + Sync {
    /// The key with this id.
    fn find(&self, access_key: &str) -> Option<Credential>;
}
