//! Writers' sessions that are over.
//!
//! Serves the one who ends a slab without its writer: once a session is fenced in every data group, the farthest reach over all groups
//! ([`super::pointers`]) says for good which rows of its slabs anything points to. (A live writer says it itself, `GroupCommand::BeginSeal`.)
//!
//! ```text
//! 'f' session    fenced
//! ```

use super::MachineError;
use super::view::{Changes, View};
use strongroom_types::SessionId;

fn session_key(session: SessionId) -> Vec<u8> {
    [&b"f"[..], &session.get().to_be_bytes()].concat()
}

pub(crate) fn fence(changes: &mut Changes<'_>, session: SessionId) {
    changes.put(session_key(session), &true);
}

pub(crate) fn is_fenced(view: &impl View, session: SessionId) -> Result<bool, MachineError> {
    Ok(view.get(&session_key(session))?.is_some())
}
