//! One conversion: plan, have each zone encode its share, commit the new layout. The old copies are given back by their holders ([`crate::sweeper`]).

use super::queue::Outcome;
use super::{CaretakerParts, META_PATIENCE, encoders};
use crate::events::Event;
use futures::future::join_all;
use strongroom_core::converter::{self, Conversion, NotNow, Progress};
use strongroom_core::placement;
use strongroom_meta::group::{GroupCommand, GroupReply};
use strongroom_types::{Deadline, SlabRecord};

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
    let (slab, job) = (record.slab, &parts.jobs.convert);
    let image_len_bytes = record.sealed().map_or(0, |sealed| u64::from(sealed.len_bytes));
    job.spend(image_len_bytes);
    let mut conversion = Conversion::new(plan);
    let tasks = conversion.plan().tasks.clone();
    let answers = join_all(tasks.iter().map(|task| encoders::encode(parts, task))).await;
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
            tracing::info!(%slab, %profile, "slab is cold");
            parts.events.tell(Event::SlabCold { slab, profile });
            job.advance(image_len_bytes);
            job.count("slabs made cold", 1);
            return Outcome::Over;
        }
        Ok(other) => tracing::debug!(slab = %record.slab, ?other, "slab got another layout meanwhile"),
        Err(error) => tracing::debug!(slab = %record.slab, %error, "new layout not committed yet"),
    }
    Outcome::Failed
}
