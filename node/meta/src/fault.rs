//! Deliberate faults for the simulator, which its checkers must catch.
//!
//! Without the cargo feature `mutants` a [`MetaFaults`] has no size and is always off.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaFault {
    /// A node whose state is gone, or rolled back, goes on under the id that it had, and founds the groups again.
    ReuseRaftId,
    /// The store is not compared with its ledger.
    RollBackUnnoticed,
    /// Fragments that were made again are taken whatever layout the slab has by then.
    TakeOutdatedFragments,
}

/// Which fault is on, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaFaults {
    #[cfg(feature = "mutants")]
    on: Option<MetaFault>,
}

impl MetaFaults {
    /// No fault.
    pub const NONE: Self = Self {
        #[cfg(feature = "mutants")]
        on: None,
    };

    /// This fault, where `on` and this build has faults at all.
    #[cfg(feature = "mutants")]
    pub const fn only_if(on: bool, fault: MetaFault) -> Self {
        Self { on: if on { Some(fault) } else { None } }
    }

    /// This fault, where `on` and this build has faults at all: it has not.
    #[cfg(not(feature = "mutants"))]
    pub const fn only_if(_on: bool, _fault: MetaFault) -> Self {
        Self {}
    }

    /// Whether `fault` is on.
    #[cfg(feature = "mutants")]
    pub fn has(self, fault: MetaFault) -> bool {
        self.on == Some(fault)
    }

    /// Whether `fault` is on: never, in this build.
    #[cfg(not(feature = "mutants"))]
    pub const fn has(self, _fault: MetaFault) -> bool {
        false
    }
}

#[cfg(not(feature = "mutants"))]
const _: () = assert!(size_of::<MetaFaults>() == 0);
