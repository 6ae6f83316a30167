//! A store in memory, a client that signs, and a clock that is turned by hand: for this crate's tests and others'.

pub mod world;
pub mod memory;
pub mod client;

pub use client::{Answer, Client, Sign};
pub use memory::MemoryStore;
pub use world::{Keys, ManualClock, SeededRng};
