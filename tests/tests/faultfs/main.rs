//! The fault device, and real nodes on it. Where there is no `/dev/fuse` these say so and pass, unless `STRONGROOM_NO_SKIP` is set.
#![allow(clippy::unwrap_used, reason = "all of this is test")]

mod device;
mod nodes;
