//! When things are done and how fast they go, as a configuration says or as it is where that says nothing.

use std::num::NonZeroU64;
use std::time::Duration;
use strongroom_types::limits::SLAB_LEN_BYTES_MAX;

/// When slabs are sealed and become cold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabPolicy {
    /// A slab is sealed once its image is this long.
    pub len_bytes_max: u32,
    /// A slab with content is sealed once it is this old.
    pub age_max: Duration,
    /// A sealed slab becomes cold this long after its seal was seen.
    pub convert_after: Duration,
    /// A slab of which most is garbage is compacted this long after its seal was seen; where nothing in it is alive, at once.
    pub compact_after: Duration,
    /// Fragments of a superseded layout are freed this long after the new one was committed.
    pub free_after: Duration,
    /// What a node holds is made again elsewhere once it has been away for this long; what a wiped drive held, at once.
    pub repair_after: Duration,
    /// What the slab table says is here is compared with what is this often.
    pub reconcile_every: Duration,
}

impl Default for SlabPolicy {
    fn default() -> Self {
        Self {
            len_bytes_max: SLAB_LEN_BYTES_MAX,
            age_max: Duration::from_secs(600),
            convert_after: Duration::from_secs(3600),
            compact_after: Duration::from_secs(1800),
            free_after: Duration::from_secs(60),
            repair_after: Duration::from_secs(900),
            reconcile_every: Duration::from_secs(86_400),
        }
    }
}

/// What work may take a second at most; no limit where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that are made or moved.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Reads and writes of drives, of whatever node.
    pub operations_per_second: Option<NonZeroU64>,
    /// Bytes that go from zone to zone.
    pub far_bytes_per_second: Option<NonZeroU64>,
}

/// How fast work goes that no user waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackgroundPolicy {
    /// Each drive is verified from end to end once in this time.
    pub scrub_period: Duration,
    /// Of each cold slab a sample of slices and parity is compared once in this time.
    pub parity_period: Duration,
    /// Whether background work starts nothing on a drive that users wait for.
    pub yields: bool,
    /// What repairs may take, and moves as much again, each of the slabs of the groups that this node leads.
    pub repair: Budget,
}

impl Default for BackgroundPolicy {
    fn default() -> Self {
        Self {
            scrub_period: Duration::from_secs(7 * 86_400),
            parity_period: Duration::from_secs(30 * 86_400),
            yields: true,
            repair: Budget::default(),
        }
    }
}
