//! Holders that were silent or short at the seal, asked again: who shows every row of the slab counts from then on.
//!
//! Without that a slab that was sealed while a node was away would live on the copies of the others, and with these gone be taken for lost,
//! though the one that came back has all of it.

use super::seal::{self, Length, ask};
use super::{CaretakerParts, META_PATIENCE};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::time::Duration;
use strongroom_core::FragmentSet;
use strongroom_core::sealer;
use strongroom_format::wire::message::FragmentAddress;
use strongroom_meta::group::{GroupCommand, GroupReply};
use strongroom_types::{Deadline, Health, Instant, NodeId, SlabId, SlabRecord};

/// Between two questions to the missing holders of one slab.
const RECOUNT_EVERY: Duration = Duration::from_secs(5);

/// When the missing holders of a slab were asked last.
#[derive(Default)]
pub(super) struct Recounts {
    asked: BTreeMap<SlabId, Instant>,
}

impl Recounts {
    /// Of the slabs that miss holders now, those that are due; they count as asked.
    pub(super) fn due(&mut self, short: Vec<SlabId>, now: Instant) -> Vec<SlabId> {
        let before = std::mem::take(&mut self.asked);
        let mut due = Vec::new();
        for slab in short {
            let asked = before.get(&slab).copied().filter(|asked| now.since(*asked) < RECOUNT_EVERY);
            if asked.is_none() {
                due.push(slab);
            }
            self.asked.insert(slab, asked.unwrap_or(now));
        }
        due
    }
}

/// Asks the missing holders of a slab of copies that answer at all.
pub(super) async fn recount(parts: &CaretakerParts, record: SlabRecord) {
    let Some(sealed) = record.sealed().filter(|_| record.profile.is_copies()) else { return };
    let missing = FragmentSet::from_mask(sealed.missing);
    let view = parts.monitor.view();
    let answers = |node| view.node(node).is_some_and(|node| node.health == Health::Up);
    let asked: Vec<(NodeId, FragmentAddress)> = FragmentAddress::all_of(&record)
        .filter(|(node, address)| missing.contains(address.fragment) && answers(*node))
        .collect();
    let said = join_all(asked.iter().map(|(node, address)| ask(parts, &record, *node, *address))).await;
    let whole = asked
        .iter()
        .zip(&said)
        .filter(|(_, said)| said.as_ref().is_ok_and(|report| sealer::is_whole(sealed, record.epoch, report)));
    let whole: FragmentSet = whole.map(|((_, address), _)| address.fragment).collect();
    if whole.is_empty() {
        return;
    }
    let (slab, generation) = (record.slab, record.generation);
    let command = GroupCommand::CountWhole { slab, generation, whole: whole.mask() };
    let deadline = Deadline::after(parts.env.clock.now(), META_PATIENCE);
    match parts.meta.write(slab.group(), command, deadline).await {
        Ok(GroupReply::Slab(_)) => {
            tracing::info!(%slab, ?whole, "holders that were silent at the seal have every row")
        }
        Ok(other) => return tracing::debug!(%slab, ?other, "slab got another layout meanwhile"),
        Err(error) => return tracing::debug!(%slab, %error, "whole holders are not counted yet"),
    }
    let length = Length { rows: sealed.rows, root_crc32c: sealed.root_crc32c };
    seal::tell(parts, &record, length, whole).await;
}

#[cfg(test)]
mod tests {
    use super::{RECOUNT_EVERY, Recounts};
    use strongroom_types::{GroupId, Instant, SlabId};

    #[test]
    fn each_slab_is_asked_about_once_an_interval_while_it_is_short() {
        let slab = |number| SlabId::new(GroupId::new(0), number).unwrap();
        let mut recounts = Recounts::default();
        let start = Instant::ORIGIN;
        let half = start.after(RECOUNT_EVERY / 2);
        assert_eq!(recounts.due(vec![slab(1)], start), [slab(1)]);
        assert_eq!(recounts.due(vec![slab(1), slab(2)], half), [slab(2)]);
        assert_eq!(recounts.due(vec![slab(1), slab(2)], start.after(RECOUNT_EVERY)), [slab(1)]);
        assert_eq!(recounts.due(Vec::new(), half), []);
        assert!(recounts.asked.is_empty(), "what is whole is forgotten");
    }
}
