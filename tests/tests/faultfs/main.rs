//! The fault device, and real nodes on it. Where there is no `/dev/fuse` these say so and pass.
#![allow(clippy::unwrap_used, reason = "all of this is test")]

mod device;
mod nodes;
