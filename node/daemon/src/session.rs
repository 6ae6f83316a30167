//! This node's session as a writer.
//!
//! Slabs belong to a session, and so do the locators into them. A session ends with its process, or once it is fenced: others took this node for
//! gone while it lived. Then it writes on under a new one; what was on its way under the old one is refused, and its clients try again.

use std::sync::{Arc, Mutex};
use strongroom_env::Rng;
use strongroom_types::SessionId;

/// The present session. Clones are the same one.
#[derive(Clone)]
pub struct Session {
    rng: Arc<dyn Rng>,
    present: Arc<Mutex<SessionId>>,
}

impl Session {
    /// Begins one. Ids are drawn at random from 64 bits and never had before.
    pub fn begin(rng: Arc<dyn Rng>) -> Self {
        let present = Arc::new(Mutex::new(SessionId::new(rng.u64())));
        Self { rng, present }
    }

    /// The present one.
    pub fn present(&self) -> SessionId {
        *self.present.lock().expect("no code panics while it holds this lock")
    }

    /// `fenced` is over: begins another one, where that has not happened yet.
    pub fn renew(&self, fenced: SessionId) {
        let mut present = self.present.lock().expect("no code panics while it holds this lock");
        if *present == fenced {
            *present = SessionId::new(self.rng.u64());
            tracing::warn!(%fenced, present = %*present, "others took this node for gone: it writes on under a new session");
        }
    }
}
