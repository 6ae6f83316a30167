//! One repair: plan, have each zone make its lost fragments again, have the table take them. What they stand in for is given back by whoever has it still
//! ([`crate::sweeper`]). A move is carried out by the same steps ([`super::moves`]).

use super::queue::Outcome;
use super::{CaretakerParts, META_PATIENCE, encoders};
use crate::encode::window_len_max;
use crate::events::Event;
use crate::jobs::Cost;
use crate::survey::fragment_len_bytes;
use futures::future::join_all;
use strongroom_core::FragmentSet;
use strongroom_core::placement;
use strongroom_core::repair::{self, NotNow, RepairPlan, Rest};
use strongroom_meta::group::{GroupCommand, GroupReply};
use strongroom_types::{Deadline, SlabId, SlabRecord};

/// Tries to make lost fragments of a cold slab again.
pub(super) async fn repair(parts: &CaretakerParts, record: &SlabRecord, lost: FragmentSet) -> Outcome {
    let slab = record.slab;
    // The same for every attempt at this layout, so that a retry finds the fragments that an earlier one has finished.
    let seed = slab.to_bits() ^ u64::from(record.next_generation.get());
    let plan = match repair::plan(record, &parts.monitor.view(), lost, seed) {
        Ok(plan) => plan,
        Err(reason) => {
            tracing::debug!(%slab, ?lost, %reason, "slab is not repaired now");
            return not_planned(parts, Why::Lost, slab, reason);
        }
    };
    let job = &parts.jobs.repair;
    let fragment_len_bytes = fragment_len_bytes(record);
    job.spend_all(cost(parts, &plan, fragment_len_bytes));
    let (outcome, fragments) = carry_out(parts, &plan, Why::Lost).await;
    if outcome == Outcome::Over {
        tracing::info!(%slab, ?lost, "lost fragments are made again");
        parts.events.tell(Event::SlabRepaired { slab, fragments });
        job.advance(fragments);
        job.count("bytes made again", fragments * fragment_len_bytes);
    }
    outcome
}

/// What a repair or a move takes of its budget, if all goes well. It is spent when it begins: what fails has taken most of it.
pub(super) fn cost(parts: &CaretakerParts, plan: &RepairPlan, fragment_len_bytes: u64) -> Cost {
    let view = parts.monitor.view();
    let mut cost = Cost::default();
    for task in &plan.tasks {
        let of_task = task.cost(&view, window_len_max(task.encode.profile));
        cost.bytes += task.encode.targets.len() as u64 * fragment_len_bytes;
        cost.operations += of_task.operations;
        cost.far_bytes += of_task.far_bytes;
    }
    cost
}

/// What becomes of a repair or a move that cannot be planned.
pub(super) fn not_planned(parts: &CaretakerParts, why: Why, slab: SlabId, reason: NotNow) -> Outcome {
    match reason {
        NotNow::NotCold | NotNow::Whole => {
            parts.alarms.over(&why.topic(slab));
            Outcome::Over
        }
        // What earlier attempts made may be what takes the room.
        NotNow::Placement(placement::NotNow::ZoneShort { full: true, .. }) => Outcome::Refused,
        NotNow::TooFew { .. } | NotNow::NoChecksum { .. } | NotNow::Placement(_) => Outcome::Failed,
    }
}

/// Why fragments are made elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// They are lost.
    Lost,
    /// They are to be somewhere else.
    Moved,
}

impl Why {
    /// Of its alarm: what becomes of a move says nothing of a repair.
    fn topic(self, slab: SlabId) -> String {
        match self {
            Self::Lost => format!("repair of {slab}"),
            Self::Moved => format!("move of {slab}"),
        }
    }
}

/// Has the fragments made, and the table take those that were; says how many it took.
pub(super) async fn carry_out(parts: &CaretakerParts, plan: &RepairPlan, why: Why) -> (Outcome, u64) {
    let (slab, topic) = (plan.slab, why.topic(plan.slab));
    let answers = join_all(plan.tasks.iter().map(|task| encoders::encode(parts, task))).await;
    let repair::Outcome { made, rest } = plan.outcome(&answers);
    if rest == Rest::Differs {
        let words = format!(
            "{slab}: fragments that were made again are not what was lost, so one that they were made from is wrong though its checksums hold; they are not taken"
        );
        parts.alarms.lasting(topic, words);
    } else {
        parts.alarms.over(&topic);
    }
    if made.is_empty() {
        return (if rest == Rest::Failed { Outcome::Failed } else { Outcome::Refused }, 0);
    }
    let (generation, layout, fragments) = (plan.known, plan.layout, made.len() as u64);
    let command = GroupCommand::SetHolders { slab, generation, layout, made };
    let deadline = Deadline::after(parts.env.clock.now(), META_PATIENCE);
    match parts.meta.write(slab.group(), command, deadline).await {
        Ok(GroupReply::Slab(_)) => {
            tracing::debug!(%slab, %layout, ?rest, "fragments that were made are in the table");
            // What is left to do the next walk finds.
            return (Outcome::Over, fragments);
        }
        Ok(other) => tracing::debug!(%slab, %layout, ?other, "slab got another layout meanwhile"),
        Err(error) => tracing::debug!(%slab, %error, "fragments that were made are not in the table yet"),
    }
    (Outcome::Failed, 0)
}
