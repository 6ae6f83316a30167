//! Who takes part in the cluster, as far as an operator has a say in it.

use super::Node;
use crate::dismissal::{DismissError, Dismissal};
use strongroom_types::NodeId;

impl Node {
    /// Has another node take part never again, whose id is never used again.
    ///
    /// # Errors
    /// See [`DismissError`].
    pub async fn dismiss(&self, node: NodeId) -> Result<(), DismissError> {
        let view = self.base.monitor.view();
        let dismissal = Dismissal {
            env: &self.base.env,
            meta: &self.base.meta,
            slabs: &self.base.slabs,
            view: &view,
            own: self.base.node,
        };
        dismissal.dismiss(node).await
    }
}
