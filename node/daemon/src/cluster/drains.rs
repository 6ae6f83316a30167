//! What is to be emptied, asked of the control group from time to time and told to the monitor.
//!
//! Linearizable, and a moment later an opinion, as all of the view is: what a node does not know yet makes it put something where it has to be moved from again.

use super::monitor::Monitor;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use strongroom_env::Env;
use strongroom_meta::Meta;
use strongroom_meta::control::{ControlAnswer, ControlQuery};
use strongroom_types::{Deadline, DrainSubject};

/// Between two questions.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the control group may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at whether the monitor has heard what the groups know.
const HEARD_PAUSE: Duration = Duration::from_millis(20);

/// Starts asking, until the node ends. What was known stays known while nobody answers.
pub fn start(env: &Env, meta: &Arc<Meta>, monitor: &Arc<Monitor>) {
    let (world, meta, monitor) = (env.clone(), meta.clone(), monitor.clone());
    let task = async move {
        loop {
            let deadline = Deadline::after(world.clock.now(), PATIENCE);
            match meta.control_query(ControlQuery::Drains, deadline).await {
                Ok(ControlAnswer::Drains(drains)) => {
                    take(&world, &meta, &monitor, drains.into_keys().collect()).await;
                }
                Ok(other) => tracing::error!(?other, "control group gave an answer that does not fit"),
                Err(error) => tracing::debug!(%error, "what is to be emptied cannot be asked now"),
            }
            world.clock.sleep(LOOK_EVERY).await;
        }
    };
    env.spawn.spawn("drains", Box::pin(task));
}

/// Takes in what the control group has said. A drain of a node that is gone was ended, or its node was dismissed, which is one step of the control group: the
/// node is used again only by who knows which, or for a moment new slabs would be placed on one that is about to end.
pub async fn take(env: &Env, meta: &Meta, monitor: &Monitor, drains: BTreeSet<DrainSubject>) {
    let before = monitor.drains();
    let gone = before.difference(&drains).filter_map(|subject| match subject {
        DrainSubject::Node(node) => Some(*node),
        DrainSubject::Drive(_) => None,
    });
    let gone: Vec<_> = gone.collect();
    if !gone.is_empty() && !meta.read_members().await {
        return;
    }
    for node in gone {
        // Told by `membership`, which only has to have its turn.
        while meta.known().is_dismissed(node) && monitor.view().node(node).is_some() {
            env.clock.sleep(HEARD_PAUSE).await;
        }
    }
    monitor.set_drains(drains);
}
