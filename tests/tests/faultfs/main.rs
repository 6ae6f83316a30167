//! The fault device, and real nodes on it. Where there is no `/dev/fuse` these say so and pass.

mod device;
mod nodes;
