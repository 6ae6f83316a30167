//! The simulator: real nodes in one process, on one thread, where time, tasks, network, drives and randomness are simulated
//! and everything that happens follows from one seed.
//!
//! **Invariant** A run takes nothing from outside but its seed and options: no host time, no host randomness, no address, no
//! order of a hash. Two runs of one seed write the same trace; the `sim` binary compares them.
//!
//! **Invariant** One run a process. Libraries below keep process-wide counters (tokio and futures mix one into every
//! generator they seed), so a second run in the same process would differ; the binary starts itself again for each run.

pub mod limits;
pub mod draws;
pub mod entropy;
pub mod trace;
pub mod tasks;
pub mod clock;
pub mod rng;
pub mod spawn;
pub mod net;
pub mod drives;
pub mod world;
pub mod operation;
pub mod history;
pub mod checkers;
pub mod faults;
pub mod system;
pub mod workload;
pub mod scenarios;
pub mod report;
pub mod inspection;
pub mod run;
pub mod shrink;
pub mod toy;
pub mod strongroom;

pub use draws::Draws;
pub use world::World;
