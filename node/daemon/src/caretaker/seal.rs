//! One sealing attempt: ask the holders, decide, commit, tell the holders.

use super::{CaretakerParts, META_PATIENCE};
use bytes::Bytes;
use futures::future::join_all;
use std::time::Duration;
use strongroom_core::sealer::{self, Answer, Decision, Seal as Decided};
use strongroom_core::{AckRule, Spread};
use strongroom_format::wire::message::{FragmentAddress, Request, Response, Seal, Settle};
use strongroom_meta::group::{GroupCommand, GroupReply};
use strongroom_types::{Deadline, FragmentIndex, Holder, SlabRecord};

/// How long a holder may take: where a writer's run has ended it reads every row of the slab that it has.
const SEAL_PATIENCE: Duration = Duration::from_secs(10);
/// How long a holder may take to cut to the agreed length.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// Tries to seal a fenced slab. Where too little is known it is left as it is for the next walk.
pub(super) async fn seal(parts: &CaretakerParts, record: SlabRecord) {
    let spread = match Spread::of(&record, &parts.monitor.view()) {
        Ok(spread) => spread,
        Err(error) => return parts.alarms.raise(format!("{}: cannot be sealed: {error}", record.slab)),
    };
    let answers =
        join_all(holders(&record).map(|(fragment, holder)| ask(parts, &record, fragment, holder))).await;
    match sealer::decide(&spread, AckRule::Zone, record.epoch, &answers) {
        Decision::Wait { silent, alarm } => {
            tracing::info!(slab = %record.slab, ?silent, "seal waits for holders that do not answer");
            if let Some(loss) = alarm {
                parts
                    .alarms
                    .raise(format!("{}: {loss}; holders that do not answer may have them", record.slab));
            }
        }
        Decision::Contested { sequence, silent } => {
            let slab = record.slab;
            parts.alarms.raise(format!(
                "{slab}: holders differ at {sequence} and none is in the majority ({silent:?} silent)"
            ));
        }
        Decision::Seal(decided) => commit(parts, &record, decided).await,
    }
}

fn holders(record: &SlabRecord) -> impl Iterator<Item = (FragmentIndex, Holder)> {
    (0u8..).map(FragmentIndex::new).zip(record.holders.iter().copied())
}

fn address(record: &SlabRecord, fragment: FragmentIndex, holder: Holder) -> FragmentAddress {
    FragmentAddress { drive: holder.drive, slab: record.slab, fragment, generation: record.generation }
}

async fn ask(parts: &CaretakerParts, record: &SlabRecord, fragment: FragmentIndex, holder: Holder) -> Answer {
    let address = address(record, fragment, holder);
    let request = Request::Seal(Seal { address, profile: record.profile, epoch: record.epoch });
    match parts.peers.ask(holder.node, &request, Bytes::new(), SEAL_PATIENCE).await {
        Ok((Response::Sealed(report), _)) => Answer::Report(report),
        Ok(_) => Answer::Silent,
        Err(error) => {
            tracing::debug!(slab = %record.slab, node = %holder.node, %error, "holder gives no word on a fenced slab");
            Answer::Silent
        }
    }
}

async fn commit(parts: &CaretakerParts, record: &SlabRecord, decided: Decided) {
    if let Some(loss) = &decided.alarm {
        parts.alarms.raise(format!("{}: data loss: {loss}", record.slab));
    }
    let Decided { sealed, settle, .. } = decided;
    let (rows, root_crc32c) = (sealed.rows, sealed.root_crc32c);
    let command = GroupCommand::CommitSeal { slab: record.slab, epoch: record.epoch, sealed };
    let deadline = Deadline::after(parts.env.clock.now(), META_PATIENCE);
    match parts.meta.write(record.slab.group(), command, deadline).await {
        Ok(GroupReply::Slab(_)) => {}
        Ok(other) => {
            return tracing::debug!(slab = %record.slab, ?other, "slab was sealed otherwise meanwhile");
        }
        Err(error) => return tracing::debug!(slab = %record.slab, %error, "seal not committed yet"),
    }
    tracing::info!(slab = %record.slab, rows, "slab sealed");
    let tell = holders(record).filter(|(fragment, _)| settle.contains(*fragment)).map(|(fragment, holder)| {
        let settle = Settle { address: address(record, fragment, holder), epoch: record.epoch, rows, root_crc32c };
        async move {
            // A holder that misses this keeps rows beyond the length; nothing points to them.
            let told = parts.peers.order(holder.node, &Request::Settle(settle), Bytes::new(), SETTLE_PATIENCE).await;
            if let Err(error) = told {
                tracing::debug!(slab = %record.slab, node = %holder.node, %error, "holder was not told the length");
            }
        }
    });
    join_all(tell).await;
}
