//! Deliberate faults for the simulator: each must be caught by one of its checkers, else the checkers see too little.
//!
//! Without the cargo feature `mutants` a [`MutantSwitch`] has no size and is always off, so that nothing of this is in what is
//! shipped. There is no global state: the switch travels in configurations.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A row counts as durable once any `k` fragments hold it.
    AckInOneZone,
    /// A holder answers an append before it flushed.
    SkipFlush,
    /// The writer gives out locators when it sends a row.
    CommitBeforeDurable,
    /// Rows always say that nothing is committed, and a seal forgets how far the namespace's locators reach: where either is left, the other tells.
    /// It says nothing either of what it misses while too many holders are silent.
    LoseCommittedUpto,
    /// A drive's read error is taken for an absent fragment.
    EioIsNotFound,
    /// A seal is decided from any `k` answers, whoever is silent, and also where rows that locators point to are seen to be lost: with either wait left,
    /// it would wait.
    SealWithTooFew,
    /// A row whose bytes do not match their checksum ends what a holder says it has, as a torn tail would, and what it has:
    /// else the rows behind would be read all the same, and nobody would miss them.
    TruncateOnBadCrc,
    /// A voter that lost its store goes on under the id that it had.
    ReuseRaftId,
    /// A fragment of a superseded layout is freed before the new layout is committed.
    FreeBeforeCommit,
    /// A slab is killed once what is alive in it is being copied, before the versions have the copies, and no group is asked whether they do.
    KillBeforeRelocated,
    /// A slab is compacted and killed though its writer may still commit locators into it.
    CompactUnfenced,
    /// Fragments that were made again, or moved, are taken by the slab table whatever layout the slab has by then.
    RepairIgnoresGeneration,
    /// A fragment that is verified is always found whole.
    ScrubSeesNothing,
}

/// Which fault is on, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MutantSwitch {
    #[cfg(feature = "mutants")]
    on: Option<Mutant>,
}

impl MutantSwitch {
    /// No fault.
    pub const NONE: Self = Self {
        #[cfg(feature = "mutants")]
        on: None,
    };

    /// This fault.
    #[cfg(feature = "mutants")]
    pub const fn only(mutant: Mutant) -> Self {
        Self { on: Some(mutant) }
    }

    /// Whether `mutant` is on.
    #[cfg(feature = "mutants")]
    pub fn has(self, mutant: Mutant) -> bool {
        self.on == Some(mutant)
    }

    /// Whether `mutant` is on: never, in this build.
    #[cfg(not(feature = "mutants"))]
    pub const fn has(self, _mutant: Mutant) -> bool {
        false
    }
}

#[cfg(not(feature = "mutants"))]
const _: () = assert!(size_of::<MutantSwitch>() == 0);
