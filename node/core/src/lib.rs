//! Decisions without I/O: where fragments go, when a row is durable, what a slab writer sends, how a slab is sealed,
//! converted, repaired, moved and compacted. No clock, no randomness, no tasks: time and seeds come in as arguments, effects go out as values.
//!
//! Modules stand lowest first and import only from those above. The async shells around them are in `node/daemon`.
//!
//! **Invariant** Nothing here reads a clock, draws a random number, or touches a drive, a socket or a task.

pub mod converter;
pub mod credits;
pub mod durable;
pub mod encoding;
pub mod fragment_set;
pub mod limits;
pub mod mutants;
pub mod placement;
pub mod planner;
pub mod repair;
pub mod mover;
pub mod rebalancer;
pub mod drain;
pub mod sealer;
pub mod compactor;
pub mod tour;
pub mod writer;

pub use durable::{AckRule, Margin, Spread, SpreadError, is_durable, margin, survives};
pub use fragment_set::FragmentSet;
