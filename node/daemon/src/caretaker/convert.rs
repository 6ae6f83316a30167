//! One conversion: plan, have each zone encode its share, commit the new layout. The old copies are given back by their holders ([`crate::sweeper`]).

use super::conversions::Outcome;
use super::{CaretakerParts, META_PATIENCE};
use crate::cluster::CallError;
use bytes::Bytes;
use futures::future::{Either, join_all, select};
use std::pin::pin;
use std::time::Duration;
use strongroom_core::converter::{self, Conversion, EncodeTask, Encoded, NotNow, Progress};
use strongroom_core::placement;
use strongroom_format::wire::message::{Refusal, Request, Response};
use strongroom_meta::group::{GroupCommand, GroupReply};
use strongroom_types::{Deadline, Health, NodeId, SlabRecord};

/// How long an encoder may take for a whole slab: 256 MiB at 4 MiB/s and a little. Where its answer was lost this is waited for in vain.
const ENCODE_PATIENCE: Duration = Duration::from_secs(65);
/// Between two looks at whether its node still answers at all.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tries to make a sealed slab cold. Where it cannot be now, it is left as it is.
pub(super) async fn convert(parts: &CaretakerParts, record: &SlabRecord) -> Outcome {
    let view = parts.monitor.view();
    // The same for every attempt at this layout, so that a retry finds the fragments that an earlier one has finished.
    let seed = record.slab.to_bits() ^ u64::from(record.next_generation.get());
    let plan = match converter::plan(record, &view, seed) {
        Ok(plan) => plan,
        Err(reason) => {
            tracing::debug!(slab = %record.slab, %reason, "slab is not converted now");
            return match reason {
                NotNow::NotSealed | NotNow::AlreadyCold | NotNow::Empty => Outcome::Over,
                // What earlier attempts made may be what takes the room.
                NotNow::Placement(placement::NotNow::ZoneShort { full: true, .. }) => Outcome::Refused,
                NotNow::NoProfile | NotNow::NoSource | NotNow::Placement(_) => Outcome::Failed,
            };
        }
    };
    let mut conversion = Conversion::new(plan);
    let tasks = conversion.plan().tasks.clone();
    let answers = join_all(tasks.iter().map(|task| encode(parts, task))).await;
    let mut progress = Progress::Pending;
    for (task, answer) in answers.into_iter().enumerate() {
        progress = conversion.answer(task, answer);
    }
    let relayout = match progress {
        Progress::Relayout(relayout) => relayout,
        Progress::Refused => return Outcome::Refused,
        Progress::Failed | Progress::Pending => return Outcome::Failed,
    };
    let profile = relayout.profile;
    let command = GroupCommand::Relayout {
        slab: relayout.slab,
        generation: relayout.known,
        layout: relayout.layout,
        profile,
        holders: relayout.holders,
        table_crc32c: relayout.table_crc32c,
        missing: relayout.missing,
    };
    let deadline = Deadline::after(parts.env.clock.now(), META_PATIENCE);
    match parts.meta.write(record.slab.group(), command, deadline).await {
        Ok(GroupReply::Slab(_)) => {
            tracing::info!(slab = %record.slab, %profile, "slab is cold");
            return Outcome::Over;
        }
        Ok(other) => tracing::debug!(slab = %record.slab, ?other, "slab got another layout meanwhile"),
        Err(error) => tracing::debug!(slab = %record.slab, %error, "new layout not committed yet"),
    }
    Outcome::Failed
}

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

async fn encode(parts: &CaretakerParts, task: &EncodeTask) -> Encoded {
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
