//! Peers as this node sees them: who answers, and what drives they have.

mod changes;
pub mod monitor;
pub mod membership;
pub mod drains;
pub mod rpc;

pub use monitor::Monitor;
pub use rpc::{CallError, Peers};
