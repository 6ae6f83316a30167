//! Who takes part in the cluster, as far as an operator has a say in it.

use super::Node;
use crate::dismissal::{DismissError, Dismissal};
use strongroom_types::NodeId;

impl Node {
    /// Has another node take part never again, whose id is never used again. What only it has is lost only where `may_lose`.
    ///
    /// # Errors
    /// See [`DismissError`].
    pub async fn dismiss(&self, node: NodeId, may_lose: bool) -> Result<(), DismissError> {
        let dismissal = Dismissal {
            env: &self.base.env,
            meta: &self.base.meta,
            slabs: &self.base.slabs,
            monitor: &self.base.monitor,
            own: self.base.node,
            may_lose,
        };
        dismissal.dismiss(node).await
    }
}
