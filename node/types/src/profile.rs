//! How a slab is spread: RS(k, m), with copies as the case k = 1.

use crate::limits::FRAGMENTS_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;

/// RS(k, m): any `k` of the `k + m` fragments give the image back. `k = 1` means `1 + m` copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u8, u8)", into = "(u8, u8)")]
pub struct Profile {
    data: u8,
    parity: u8,
}

/// A profile outside `1 <= k`, `1 <= m`, `k + m <= 32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile RS({data},{parity}): expected 1 <= k, 1 <= m and k + m <= {FRAGMENTS_MAX}")]
pub struct ProfileError {
    /// `k` as given.
    pub data: u8,
    /// `m` as given.
    pub parity: u8,
}

impl Profile {
    /// RS(`data`, `parity`).
    ///
    /// # Errors
    /// Outside `1 <= k`, `1 <= m`, `k + m <= 32`.
    pub fn new(data: u8, parity: u8) -> Result<Self, ProfileError> {
        if data == 0 || parity == 0 || data as usize + parity as usize > FRAGMENTS_MAX {
            return Err(ProfileError { data, parity });
        }
        Ok(Self { data, parity })
    }

    /// `count` whole copies, that is RS(1, count - 1).
    ///
    /// # Errors
    /// Below two copies or above 32.
    pub fn copies(count: u8) -> Result<Self, ProfileError> {
        Self::new(1, count.saturating_sub(1))
    }

    /// `k`: fragments that hold the image itself, and how many are needed to read.
    pub const fn data_count(self) -> u8 {
        self.data
    }

    /// `m`: fragments that may be lost.
    pub const fn parity_count(self) -> u8 {
        self.parity
    }

    /// `k + m`.
    pub const fn fragment_count(self) -> u8 {
        self.data + self.parity
    }

    /// Whether every fragment is a whole copy.
    pub const fn is_copies(self) -> bool {
        self.data == 1
    }
}

impl TryFrom<(u8, u8)> for Profile {
    type Error = ProfileError;
    fn try_from((data, parity): (u8, u8)) -> Result<Self, ProfileError> {
        Self::new(data, parity)
    }
}

impl From<Profile> for (u8, u8) {
    fn from(profile: Profile) -> Self {
        (profile.data, profile.parity)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_copies() {
            write!(f, "{} copies", self.fragment_count())
        } else {
            write!(f, "RS({},{})", self.data, self.parity)
        }
    }
}

#[cfg(test)]
mod tests;
