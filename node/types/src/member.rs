//! Who belongs to the cluster, as configurations name them and the control group admits them.

use crate::ids::{NodeId, ZoneId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A node of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Its zone; a node never changes it.
    pub zone: ZoneId,
    /// Where its peers reach it.
    pub address: SocketAddr,
}
