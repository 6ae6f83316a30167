//! The world as seen by a node: time, randomness, tasks and peers, each behind a trait.
//!
//! A node gets one [`Env`] and touches the outside through it alone, so that production ([`real`]) and the simulator
//! (in `tests`) run the same code. What is not here: drives (`strongroom-io`) and the key-value store (`strongroom-meta`).
//!
//! **Invariant** No other crate of the node reads a clock, draws a random number, spawns a thread or opens a socket to a peer.

pub mod clock;
pub mod limits;
pub mod net;
pub mod real;
pub mod rng;
pub mod scope;
pub mod spawn;

pub use clock::Clock;
pub use net::{Handler, Net, NetError};
pub use rng::Rng;
pub use scope::Scope;
pub use spawn::{Spawn, Task};

use std::sync::Arc;

/// Everything outside that a node may touch. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// Monotonic and wall time, and sleeping.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub rng: Arc<dyn Rng>,
    /// Tasks that end with the node.
    pub spawn: Arc<dyn Spawn>,
    /// The peers.
    pub net: Arc<dyn Net>,
}
