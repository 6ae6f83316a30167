//! What must be agreed on: buckets and the cluster in the control group; names, versions and the slab table in the data groups.
//! Each group is one openraft Raft; commands change it, queries read it linearizably.
//!
//! Knows nothing of drives, rows or HTTP. **Invariant** No transaction crosses groups.

mod barrier;
mod client;
mod codec;
pub mod control;
mod damage;
mod fault;
#[cfg(test)]
mod golden;
pub mod group;
pub mod kv;
pub mod limits;
mod log;
mod machine;
mod meta;
#[cfg(test)]
mod testing;
mod network;
mod proposer;
mod raft;
mod raft_id;
mod runtime;
mod standing;
mod syncer;
mod versions;
mod watch;

pub use codec::RecordError;
pub use damage::ALARM_PREFIX;
pub use fault::{MetaFault, MetaFaults};
pub use log::LogError;
pub use machine::MachineError;
pub use meta::{GroupStatus, Known, Meta, MetaConfig, MetaError, StartError, Timing, group_of};
pub use raft_id::RaftId;
pub use standing::Founding;
pub use watch::Watch;
