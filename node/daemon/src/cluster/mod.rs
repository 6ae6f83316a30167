//! Peers as this node sees them: who answers, and what drives they have.

pub mod monitor;
pub mod rpc;

pub use monitor::Monitor;
pub use rpc::{CallError, Peers};
