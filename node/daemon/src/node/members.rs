//! Who takes part in the cluster, as far as an operator has a say in it.

use super::Node;
use crate::dismissal::{DismissError, Dismissal, LastCopies};
use strongroom_types::NodeId;

impl Node {
    /// Has another node take part never again, whose id is never used again.
    ///
    /// # Errors
    /// See [`DismissError`].
    pub async fn dismiss(&self, node: NodeId, last_copies: LastCopies) -> Result<(), DismissError> {
        let dismissal = Dismissal {
            env: &self.base.env,
            meta: &self.base.meta,
            slabs: &self.base.slabs,
            monitor: &self.base.monitor,
            own: self.base.node,
            last_copies,
        };
        dismissal.dismiss(node).await
    }
}
