//! How a writer behaves.

use crate::durable::AckRule;
use crate::limits;
use crate::mutants::MutantSwitch;
use std::time::Duration;
use strongroom_types::limits::{ROW_LEN_BYTES_MAX, SLAB_LEN_BYTES_MAX};
use strongroom_types::units::BLOCK_LEN_BYTES;

/// How a writer behaves.
#[derive(Clone, Debug)]
pub struct WriterConfig {
    /// When a row is durable.
    pub rule: AckRule,
    /// Bytes of a slab image at most: a multiple of a block, at least a row.
    pub slab_len_bytes_max: u32,
    /// Bytes of a row at most: a multiple of a block, at most `ROW_LEN_BYTES_MAX`.
    pub row_len_bytes_max: u32,
    /// Age at which a slab with content is rolled.
    pub slab_age_max: Duration,
    /// Bytes of needles that wait for a row, padded, at most.
    pub waiting_len_bytes_max: u64,
    /// How long a needle waits for a slab at most.
    pub needle_wait_max: Duration,
    /// Times that a needle is put into a row at most.
    pub tries_max: u8,
    /// Deliberate faults, for the simulator.
    pub mutants: MutantSwitch,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            rule: AckRule::Zone,
            slab_len_bytes_max: SLAB_LEN_BYTES_MAX,
            row_len_bytes_max: ROW_LEN_BYTES_MAX,
            slab_age_max: limits::SLAB_AGE_MAX,
            waiting_len_bytes_max: limits::WAITING_LEN_BYTES_MAX,
            needle_wait_max: limits::NEEDLE_WAIT_MAX,
            tries_max: limits::TRIES_MAX,
            mutants: MutantSwitch::NONE,
        }
    }
}

impl WriterConfig {
    /// A configuration that contradicts itself is a broken invariant: it is built by the node, not by users.
    pub(super) fn check(&self) {
        assert!(self.row_len_bytes_max.is_multiple_of(BLOCK_LEN_BYTES), "rows are whole blocks");
        assert!((BLOCK_LEN_BYTES..=ROW_LEN_BYTES_MAX).contains(&self.row_len_bytes_max), "a row's length");
        assert!(self.slab_len_bytes_max.is_multiple_of(BLOCK_LEN_BYTES), "slabs are whole blocks");
        assert!(self.slab_len_bytes_max >= self.row_len_bytes_max, "a slab takes a full row");
        assert!(self.slab_len_bytes_max <= SLAB_LEN_BYTES_MAX, "a slab's length");
        assert!(self.waiting_len_bytes_max >= u64::from(self.row_len_bytes_max), "a full row may wait");
        assert!(self.tries_max >= 1, "a needle is tried once");
    }
}
