//! What a conversion and a repair have in common: zones' encoders are asked, and what does not come about is given up.

use super::{CaretakerParts, META_PATIENCE};
use crate::cluster::CallError;
use bytes::Bytes;
use futures::future::{Either, select};
use std::pin::pin;
use std::time::Duration;
use strongroom_core::encoding::{EncodeTask, Encoded};
use strongroom_format::wire::message::{Refusal, Request, Response};
use strongroom_meta::group::{GroupCommand, GroupReply};
use strongroom_types::{Deadline, Health, NodeId, SlabRecord};

/// How long an encoder may take for a whole slab: 20 s for a place, then 256 MiB at 6 MiB/s and a little. Where its answer was lost this is waited for in vain.
const ENCODE_PATIENCE: Duration = Duration::from_secs(65);
/// Between two looks at whether its node still answers at all.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Gives up what was made of the next layout so far.
pub(super) async fn give_up(parts: &CaretakerParts, record: &SlabRecord) {
    let (slab, layout) = (record.slab, record.next_generation);
    let deadline = Deadline::after(parts.env.clock.now(), META_PATIENCE);
    match parts.meta.write(slab.group(), GroupCommand::AbandonLayout { slab, layout }, deadline).await {
        Ok(GroupReply::Slab(_)) => {
            tracing::info!(%slab, %layout, "layout does not come about: it is given up")
        }
        Ok(other) => tracing::debug!(%slab, ?other, "slab got another layout meanwhile"),
        Err(error) => tracing::debug!(%slab, %error, "layout not given up yet"),
    }
}

/// Has an encoder do its share.
pub(super) async fn encode(parts: &CaretakerParts, task: &EncodeTask) -> Encoded {
    let request = Request::Encode(task.encode.clone());
    let asked = pin!(parts.peers.ask(task.node, &request, Bytes::new(), ENCODE_PATIENCE));
    let Either::Left((answer, _)) = select(asked, pin!(silence(parts, task.node))).await else {
        tracing::debug!(slab = %task.encode.slab, node = %task.node, "encoder's node does not answer any more");
        return Encoded::Failed;
    };
    match answer {
        Ok((Response::Encoded { tables_crc32c }, _)) => Encoded::Done { tables_crc32c },
        Ok(_) => Encoded::Failed,
        Err(error) => {
            tracing::debug!(slab = %task.encode.slab, node = %task.node, %error, "encoder failed");
            match error {
                CallError::Refused {
                    refusal: Refusal::DriveError | Refusal::Full | Refusal::Invalid(_),
                    ..
                } => Encoded::Refused,
                CallError::Refused { refusal: Refusal::Corrupt { .. }, .. } => Encoded::Differs,
                _ => Encoded::Failed,
            }
        }
    }
}

/// Ends once the node is found to be down. What was asked of it before may never be answered, though it comes back soon.
async fn silence(parts: &CaretakerParts, node: NodeId) {
    while parts.monitor.view().node(node).is_some_and(|node| node.health == Health::Up) {
        parts.env.clock.sleep(LOOK_EVERY).await;
    }
}
