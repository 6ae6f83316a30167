//! Production: the operating system's clock and randomness, tokio tasks, TCP.
//!
//! All of it runs on a tokio runtime and on the one inside `tokio_uring::start` alike. Peers' sockets are tokio's own:
//! tokio-uring's streams measured no faster, and a cancelled read of theirs eats bytes.

pub mod clock;
pub mod rng;
pub mod spawn;
pub mod tcp;

pub use clock::RealClock;
pub use rng::OsRng;
pub use spawn::RealSpawn;
pub use tcp::{PlainTcp, TcpConfig, TcpNet, TcpParts, Transport};
