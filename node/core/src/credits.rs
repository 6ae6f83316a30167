//! Byte credits: how much work may be in memory at once.
//!
//! Sans I/O: who waits for credits, and how, is the shell's business. A grant cannot be copied or made up, so what was taken
//! comes back exactly once; a grant that is dropped instead of given back is a leak that `in_use` shows.

/// A pool of bytes.
#[derive(Debug)]
pub struct Credits {
    total_bytes: u64,
    free_bytes: u64,
}

/// Bytes taken from a pool. Goes back by [`Credits::give_back`].
#[derive(Debug)]
#[must_use = "a grant that is dropped never comes back to its pool"]
pub struct Grant {
    bytes: u64,
}

/// The pool has not that much left. `asked_bytes > total_bytes` can never be granted; otherwise try later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked_bytes} bytes asked, {free_bytes} of {total_bytes} free")]
pub struct Busy {
    /// As asked.
    pub asked_bytes: u64,
    /// What is free.
    pub free_bytes: u64,
    /// What there is in all.
    pub total_bytes: u64,
}

impl Credits {
    /// A pool of `total_bytes`, all free.
    pub const fn new(total_bytes: u64) -> Self {
        Self { total_bytes, free_bytes: total_bytes }
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// Fewer are free; nothing was taken.
    pub fn take(&mut self, bytes: u64) -> Result<Grant, Busy> {
        match self.free_bytes.checked_sub(bytes) {
            Some(free_bytes) => {
                self.free_bytes = free_bytes;
                Ok(Grant { bytes })
            }
            None => {
                Err(Busy { asked_bytes: bytes, free_bytes: self.free_bytes, total_bytes: self.total_bytes })
            }
        }
    }

    /// Puts a grant back. One of another pool is a broken invariant, found where it would overfill this one.
    pub fn give_back(&mut self, grant: Grant) {
        self.free_bytes =
            self.free_bytes.checked_add(grant.bytes).expect("free and granted bytes fit in the total");
        assert!(self.free_bytes <= self.total_bytes, "a grant goes back to its own pool");
    }

    /// Bytes granted now.
    pub const fn in_use_bytes(&self) -> u64 {
        self.total_bytes - self.free_bytes
    }

    /// Bytes free now.
    pub const fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// Bytes in all.
    pub const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

impl Grant {
    /// How many bytes it is for.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `bytes` of it off as a grant of their own; `None`, and nothing changed, where it has fewer.
    pub fn split(&mut self, bytes: u64) -> Option<Self> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(Self { bytes })
    }

    /// Adds another grant of the same pool to it.
    pub fn join(&mut self, other: Self) {
        self.bytes =
            self.bytes.checked_add(other.bytes).expect("grants of one pool sum to at most its total");
    }
}

#[cfg(test)]
mod tests;
