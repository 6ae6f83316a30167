//! Writers' sessions that are over, and how far into each slab committed locators reach.
//!
//! Both serve the one who ends a slab without its writer: once a session is fenced in every data group, the farthest reach over all groups
//! says for good which rows of its slabs anything points to. (A live writer says it itself, `GroupCommand::BeginSeal`.)
//!
//! ```text
//! 'f' session    fenced
//! 'u' slab       bytes of the slab's image below which every locator lies that was ever committed here
//! ```
//!
//! **Invariant** The reach only grows, and not at all once the slab's session is fenced here. Reaches of dead slabs stay: a few bytes each.

use super::MachineError;
use super::view::{Changes, View};
use strongroom_types::{Locator, SessionId, SlabId};

fn session_key(session: SessionId) -> Vec<u8> {
    [&b"f"[..], &session.get().to_be_bytes()].concat()
}

fn reach_key(slab: SlabId) -> Vec<u8> {
    [&b"u"[..], &slab.to_bits().to_be_bytes()].concat()
}

pub(crate) fn fence(changes: &mut Changes<'_>, session: SessionId) {
    changes.put(session_key(session), &true);
}

pub(crate) fn is_fenced(view: &impl View, session: SessionId) -> Result<bool, MachineError> {
    Ok(view.get(&session_key(session))?.is_some())
}

/// Notes that these locators are committed.
pub(crate) fn use_slabs(changes: &mut Changes<'_>, locators: &[Locator]) -> Result<(), MachineError> {
    for locator in locators {
        let end = u32::try_from(locator.end_bytes()).unwrap_or(u32::MAX);
        if end > used_upto(changes, locator.slab)? {
            changes.put(reach_key(locator.slab), &end);
        }
    }
    Ok(())
}

pub(crate) fn used_upto(view: &impl View, slab: SlabId) -> Result<u32, MachineError> {
    Ok(view.record("reach into a slab", &reach_key(slab))?.unwrap_or(0))
}
