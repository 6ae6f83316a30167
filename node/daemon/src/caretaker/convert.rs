//! One conversion: plan, have each zone encode its share, commit the new layout. The old copies are given back by their holders ([`crate::sweeper`]).

use super::{CaretakerParts, META_PATIENCE};
use bytes::Bytes;
use futures::future::join_all;
use std::time::Duration;
use strongroom_core::converter::{self, Conversion, EncodeTask, Encoded, Progress};
use strongroom_format::wire::message::{Request, Response};
use strongroom_meta::group::{GroupCommand, GroupReply};
use strongroom_types::{Deadline, SlabRecord};

/// How long an encoder may take for a whole slab.
const ENCODE_PATIENCE: Duration = Duration::from_secs(120);

/// Tries to make a sealed slab cold. Where it cannot be now, it is left as it is for a later walk.
pub(super) async fn convert(parts: &CaretakerParts, record: SlabRecord) {
    let view = parts.monitor.view();
    // The same for every attempt at this layout, so that a retry finds the fragments that an earlier one has finished.
    let seed = record.slab.to_bits() ^ u64::from(record.generation.get());
    let plan = match converter::plan(&record, &view, seed) {
        Ok(plan) => plan,
        Err(reason) => return tracing::debug!(slab = %record.slab, %reason, "slab is not converted now"),
    };
    let mut conversion = Conversion::new(plan);
    let tasks = conversion.plan().tasks.clone();
    let answers = join_all(tasks.iter().map(|task| encode(parts, task))).await;
    let mut progress = Progress::Pending;
    for (task, answer) in answers.into_iter().enumerate() {
        progress = conversion.answer(task, answer);
    }
    let Progress::Relayout(relayout) = progress else { return };
    let profile = relayout.profile;
    let command = GroupCommand::Relayout {
        slab: relayout.slab,
        generation: relayout.known,
        profile,
        holders: relayout.holders,
        table_crc32c: relayout.table_crc32c,
        missing: relayout.missing,
    };
    let deadline = Deadline::after(parts.env.clock.now(), META_PATIENCE);
    match parts.meta.write(record.slab.group(), command, deadline).await {
        Ok(GroupReply::Slab(_)) => tracing::info!(slab = %record.slab, %profile, "slab is cold"),
        Ok(other) => tracing::debug!(slab = %record.slab, ?other, "slab got another layout meanwhile"),
        Err(error) => tracing::debug!(slab = %record.slab, %error, "new layout not committed yet"),
    }
}

async fn encode(parts: &CaretakerParts, task: &EncodeTask) -> Encoded {
    let request = Request::Encode(task.encode.clone());
    match parts.peers.ask(task.node, &request, Bytes::new(), ENCODE_PATIENCE).await {
        Ok((Response::Encoded { tables_crc32c }, _)) => Encoded::Done { tables_crc32c },
        Ok(_) => Encoded::Failed,
        Err(error) => {
            tracing::debug!(slab = %task.encode.slab, node = %task.node, %error, "encoder failed");
            Encoded::Failed
        }
    }
}
