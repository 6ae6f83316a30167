//! The node: the shell that joins drives, peers, consensus and the S3 door, and the programs around it.
//!
//! Data flows one way: the door calls [`store`], which writes through [`ingest`] and reads through [`fetch`]; both talk to peers through
//! [`cluster`]; peers' requests arrive at [`holder`], which alone touches [`drive`]s. [`caretaker`] and [`encode`] turn sealed
//! copies into cold fragments in the background. Decisions are `strongroom-core`'s; here they are carried out.
//!
//! Modules stand lowest first and import only from those above.

pub mod limits;
pub mod config;
#[cfg(test)]
pub(crate) mod testing;
pub mod events;
pub mod alarms;
pub mod jobs;
pub mod status;
pub mod drive;
pub mod holder;
pub mod cluster;
pub mod slabs;
pub mod session;
pub mod pins;
pub mod fetch;
pub mod encode;
pub mod ingest;
pub mod store;
pub mod survey;
pub mod caretaker;
pub mod admission;
pub mod sweeper;
pub mod reconcile;
pub mod drain;
pub mod parity;
pub mod dismissal;
pub mod scrub;
pub mod runs;
pub mod metrics;
pub mod node;
pub mod control;
pub mod process;
pub mod mail;
pub mod dev;
pub mod demo;
pub mod cli;
