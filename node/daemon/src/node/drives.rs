//! Opening the drives of the configuration.

use super::{NodeError, NodeParts};
use crate::drive::{Drive, OpenError};
use crate::holder::Holder;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use strongroom_format::superblock::SuperblockError;

/// Opens the drives. One that has died takes itself out and not the node; one that is not what the configuration says is the operator's to look
/// at before anything starts. The second list names those that are out.
pub(super) async fn open(parts: &NodeParts) -> Result<(Holder, Vec<String>), NodeError> {
    let mut drives: BTreeMap<_, Arc<Drive>> = BTreeMap::new();
    let mut failed = Vec::new();
    // Before any is opened: opening one leaves a mark on it.
    let mut known = BTreeSet::new();
    for (index, device) in parts.drives.iter().enumerate() {
        if let Ok(superblock) = crate::drive::inspect(device.as_ref()).await
            && !known.insert(superblock.drive)
        {
            return Err(NodeError::Twice { index });
        }
    }
    for (index, device) in parts.drives.iter().enumerate() {
        let opened = Drive::open(device.clone(), parts.cluster, &parts.env, parts.mutants).await;
        let drive = match opened {
            Ok(drive) => {
                drive.await_admission();
                drive.set_yields(parts.background.yields);
                drive
            }
            Err(error) if has_died(&error) => {
                tracing::error!(index, %error, "drive cannot be opened: the node runs without it");
                failed.push(format!("drive {index}: {error}"));
                continue;
            }
            Err(source) => return Err(NodeError::Drive { index, source }),
        };
        if drives.insert(drive.id(), Arc::new(drive)).is_some() {
            return Err(NodeError::Twice { index });
        }
    }
    Ok((Holder::new(drives.into_values()), failed))
}

/// Whether the drive is the right one as far as can be told, and broken.
fn has_died(error: &OpenError) -> bool {
    match error {
        OpenError::Device(_)
        | OpenError::Superblock(SuperblockError::Damaged { .. } | SuperblockError::Unreadable { .. }) => true,
        OpenError::Superblock(
            SuperblockError::Blank | SuperblockError::Foreign | SuperblockError::Version { .. },
        )
        | OpenError::OtherCluster { .. }
        | OpenError::Shrunk { .. }
        | OpenError::Layout(_)
        | OpenError::Ours { .. }
        | OpenError::Foreign => false,
    }
}
