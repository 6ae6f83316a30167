//! The operator: what is to be emptied, ordered until somebody takes the order, and compared with what the cluster says in the end; and who is dismissed.

use super::{Cluster, Entrance, in_task, lock};
use crate::sim::world::End;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;
use strongroom_types::{DrainSubject, NodeId};

const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);
/// Until the process of a node that was dismissed ends: it reads so from the control group, as all others do.
const ENDED: Duration = Duration::from_secs(5);

/// What the operator wants.
#[derive(Default)]
pub(super) struct Operator {
    wanted: Mutex<BTreeMap<(NodeId, Option<usize>), Wanted>>,
}

#[derive(Clone, Copy)]
struct Wanted {
    /// Which order it is: a later one about the same place takes its place.
    order: u64,
    /// `None` until it is known which drive is there.
    subject: Option<DrainSubject>,
}

impl Cluster {
    /// Has a node, or the drive in this place of it, emptied.
    pub(super) fn begin_drain(&self, node: NodeId, drive: Option<usize>) {
        let order = {
            let mut wanted = lock(&self.inner.operator.wanted);
            let order = wanted.get(&(node, drive)).map_or(1, |before| before.order + 1);
            wanted.insert((node, drive), Wanted { order, subject: None });
            order
        };
        let cluster = self.clone();
        let task = async move {
            while cluster.is_wanted(node, drive, order) {
                if let Some(subject) = cluster.subject(node, drive) {
                    // First noted, then asked for: what may have been begun is ended.
                    if let Some(wanted) = lock(&cluster.inner.operator.wanted).get_mut(&(node, drive)) {
                        wanted.subject = Some(subject);
                    }
                    if cluster.order_drain(subject, true).await {
                        return;
                    }
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        self.world().spawn("operator", Box::pin(task));
    }

    /// Has it used again. Ordered once: what does not reach anybody is found out when the faults are over.
    pub(super) fn end_drain(&self, node: NodeId, drive: Option<usize>) {
        let ended = lock(&self.inner.operator.wanted).remove(&(node, drive));
        let Some(subject) = ended.and_then(|wanted| wanted.subject) else { return };
        let cluster = self.clone();
        let task = async move {
            cluster.order_drain(subject, false).await;
        };
        self.world().spawn("operator", Box::pin(task));
    }

    /// Makes the cluster empty what is wanted and nothing else, whatever became of orders.
    ///
    /// # Errors
    /// It does not say what it empties, or take orders, within the limit.
    pub async fn compare_drains(&self, limit: Duration) -> Result<(), String> {
        if lock(&self.inner.operator.wanted).is_empty() && !self.was_drained() {
            return Ok(());
        }
        let until = tokio::time::Instant::now() + limit;
        loop {
            let wanted: BTreeSet<DrainSubject> =
                lock(&self.inner.operator.wanted).values().filter_map(|wanted| wanted.subject).collect();
            let found = self.ask_any(PATIENCE, |door| door.drains()).await.flatten();
            if found.as_ref() == Some(&wanted) {
                return Ok(());
            }
            if tokio::time::Instant::now() > until {
                return Err(format!("{found:?} is emptied, {wanted:?} is to be"));
            }
            for subject in found.iter().flat_map(|found| found.difference(&wanted)) {
                self.order_drain(*subject, false).await;
            }
            for subject in found.iter().flat_map(|found| wanted.difference(found)) {
                self.order_drain(*subject, true).await;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Has some node take an order; whether one did.
    pub async fn order_drain(&self, subject: DrainSubject, wanted: bool) -> bool {
        let taken = self.ask_any(PATIENCE, |door| door.drain(subject, wanted)).await;
        let words = match &taken {
            Some(Ok(())) => "taken".to_owned(),
            Some(Err(error)) => format!("{error:#}"),
            None => "nobody answers".to_owned(),
        };
        self.world().trace().line(format_args!("operator drain of {subject:?} wanted: {wanted}: {words}"));
        matches!(taken, Some(Ok(())))
    }

    /// Has the first of the other nodes that answers dismiss a node that runs; its process ends soon after, and its machine is taken away.
    ///
    /// # Errors
    /// Why it is not dismissed; nothing has changed then.
    pub async fn dismiss(&self, node: NodeId) -> Result<(), String> {
        let others = self.doors().clone().into_iter().filter(|(other, _)| *other != node);
        let mut said = Err("nobody answers".to_owned());
        for (_, Entrance { door, spawn, .. }) in others {
            let (_task, answer) = in_task(&*spawn, door.dismiss(node));
            if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, answer).await {
                said = answer;
                break;
            }
        }
        self.world().trace().line(format_args!("operator dismisses {node}: {said:?}"));
        said?;
        // Its drain is over with that, and nobody wants it any more.
        lock(&self.inner.operator.wanted).retain(|(of, _), _| *of != node);
        tokio::time::sleep(ENDED).await;
        self.kill(node, End::Crash);
        self.world().scrap(node);
        Ok(())
    }

    /// What is in this place now, as its node says.
    pub fn subject(&self, node: NodeId, drive: Option<usize>) -> Option<DrainSubject> {
        let Some(place) = drive else { return Some(DrainSubject::Node(node)) };
        let glimpses = self.glimpses();
        let (_, _, glimpse) = glimpses.iter().find(|(of, ..)| *of == node)?;
        let found = glimpse.drives.iter().find(|(index, _)| *index == place)?;
        Some(DrainSubject::Drive(found.1))
    }

    fn is_wanted(&self, node: NodeId, drive: Option<usize>, order: u64) -> bool {
        lock(&self.inner.operator.wanted).get(&(node, drive)).is_some_and(|wanted| wanted.order == order)
    }

    fn was_drained(&self) -> bool {
        self.found().tried.contains_key("begin-drain")
    }
}
