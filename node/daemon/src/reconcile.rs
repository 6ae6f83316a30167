//! Fragments that the slab table says are on this node's drives, and are not, or not whole: a drive may have lost the headers that they are found by.
//!
//! What is there and should not be is [`crate::sweeper`]'s. Goes through all tables once at the node's start, and then from time to time. Of what lacks the
//! table learns that it is missing, so that readers pass it over and it is made again. That is no word on absence: what cannot be told may be it. A drive that is
//! not there at all, or whose word does not count (yet), lacks nothing; a round that met one such is gone again soon.

use crate::drive::standing::Standing;
use crate::events::{Event, Events};
use crate::holder::Holder;
use crate::jobs::Job;
use crate::limits::SLABS_PAGE;
use crate::slabs::Slabs;
use crate::store::Found;
use std::sync::Arc;
use std::time::Duration;
use strongroom_core::FragmentSet;
use strongroom_env::Env;
use strongroom_format::wire::message::FragmentAddress;
use strongroom_meta::MetaError;
use strongroom_types::{GroupId, NodeId, SlabId, SlabRecord};

/// Before a table that did not answer is asked again.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// What the reconciler works with.
pub struct ReconcilerParts {
    /// The world.
    pub env: Env,
    /// This node.
    pub node: NodeId,
    /// Its drives.
    pub holder: Holder,
    /// The slab table.
    pub slabs: Arc<Slabs>,
    /// Data groups of the cluster.
    pub groups: u16,
    /// No round counts before it is set.
    pub found: Found,
    /// Between two rounds.
    pub every: Duration,
    /// Where damage is told.
    pub events: Arc<Events>,
    /// What an operator pauses it by.
    pub job: Arc<Job>,
}

/// Compares slab tables with this node's drives.
pub struct Reconciler {
    parts: ReconcilerParts,
}

impl Reconciler {
    /// Starts the first round.
    pub fn start(parts: ReconcilerParts) {
        let env = parts.env.clone();
        let reconciler = Self { parts };
        let task = async move {
            let clock = reconciler.parts.env.clock.clone();
            let job = &reconciler.parts.job;
            loop {
                job.go_on();
                while !reconciler.round().await {
                    job.wait_for("a slab table or a drive does not answer yet");
                    clock.sleep(RETRY_EVERY).await;
                }
                job.count("rounds", 1);
                job.wait_for("the next round, at its time");
                clock.sleep(reconciler.parts.every).await;
            }
        };
        env.spawn.spawn("reconciler", Box::pin(task));
    }

    /// Whether all tables could be compared with all drives.
    async fn round(&self) -> bool {
        // With another count of groups some would not be asked.
        let mut complete = self.parts.found.is_set();
        complete &= self.parts.holder.drives().all(|drive| drive.standing() != Standing::Awaited);
        for group in (0..self.parts.groups).map(GroupId::new) {
            if let Err(error) = self.compare(group).await {
                tracing::debug!(%group, %error, "slab table cannot be compared now");
                complete = false;
            }
        }
        complete
    }

    async fn compare(&self, group: GroupId) -> Result<(), MetaError> {
        let mut after = None;
        loop {
            self.parts.job.wait_while_held().await;
            let page = self.parts.slabs.page(group, after, SLABS_PAGE).await?;
            for record in &page {
                let lacking = self.lacking(record);
                if lacking != 0 {
                    tracing::warn!(slab = %record.slab, fragments = format_args!("{lacking:b}"), "fragments are not here whole: they are to be made again");
                    self.parts.slabs.count_missing(record, lacking).await?;
                    self.tell(record.slab, lacking);
                }
            }
            self.parts.job.advance(page.len() as u64);
            match page.last() {
                Some(last) if page.len() == SLABS_PAGE as usize => after = Some(last.slab),
                _ => return Ok(()),
            }
        }
    }

    fn tell(&self, slab: SlabId, lacking: u32) {
        let lacking = FragmentSet::from_mask(lacking);
        self.parts.job.count("fragments lacking", u64::from(lacking.len()));
        for fragment in lacking.iter() {
            self.parts.events.tell(Event::FragmentLacking { slab, fragment });
        }
    }

    /// Bit i set: fragment i of a sealed slab counts as being here, and is not.
    fn lacking(&self, record: &SlabRecord) -> u32 {
        let Some(sealed) = record.sealed() else { return 0 };
        let here = FragmentAddress::all_of(record).filter(|(node, _)| *node == self.parts.node);
        let lacks = |address: &FragmentAddress| {
            sealed.missing >> address.fragment.get() & 1 == 0
                && self
                    .parts
                    .holder
                    .drive(address.drive)
                    .is_ok_and(|drive| drive.lacks(address, record.profile))
        };
        here.filter(|(_, address)| lacks(address))
            .fold(0, |mask, (_, address)| mask | 1 << address.fragment.get())
    }
}
