//! Whether the drives of this node are the ones they were.
//!
//! Each opening of a drive raises the incarnation in its superblock; the control group remembers the last one that it saw. A drive that comes back
//! with an older one was put back as it was earlier: its blocks are whole, and it knows nothing of what it acknowledged since. It is read, and
//! nothing else (`drive::standing`). Until the control group has answered, fences wait.

use crate::alarms::Alarms;
use crate::drive::Drive;
use crate::drive::standing::Standing;
use crate::holder::Holder;
use std::sync::Arc;
use std::time::Duration;
use strongroom_env::Env;
use strongroom_meta::Meta;
use strongroom_meta::control::{ControlAnswer, ControlCommand, ControlQuery, ControlReply};
use strongroom_types::{Deadline, DriveId};

/// How long the control group may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks whether the device still is this drive.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Looks between two raises of the incarnation: an image that is older than this is told from the drive.
const LOOKS_PER_RAISE: u32 = 120;

/// What admission works with.
#[derive(Clone)]
pub struct AdmissionParts {
    /// The world.
    pub env: Env,
    /// The control group.
    pub meta: Arc<Meta>,
    /// The drives; none is admitted yet.
    pub holder: Holder,
    /// Where an old drive is told.
    pub alarms: Arc<Alarms>,
}

/// Starts asking for each drive, and looking after it from then on.
pub fn start(parts: &AdmissionParts) {
    let run = parts.env.rng.u64();
    for drive in parts.holder.drives() {
        let (parts, drive) = (parts.clone(), drive.clone());
        let env = parts.env.clone();
        env.spawn.spawn("drive admission", Box::pin(async move { look_after(&parts, &drive, run).await }));
    }
}

async fn look_after(parts: &AdmissionParts, drive: &Drive, run: u64) {
    let id = drive.id();
    loop {
        tell_damage(parts, drive);
        // One that could not even raise its incarnation has no word to give.
        if drive.damage().suspect || ask(parts, drive, run, drive.incarnation()).await {
            break;
        }
        parts.env.clock.sleep(RETRY).await;
    }
    let mut raised = drive.incarnation();
    for look in 1_u32.. {
        parts.env.clock.sleep(LOOK_EVERY).await;
        tell_damage(parts, drive);
        match drive.check_identity().await {
            Standing::Admitted => {}
            Standing::Awaited | Standing::Stale => return,
            Standing::Replaced => {
                let words = format!(
                    "{id}: what lies under it is not this drive any more; it is out until the node starts again"
                );
                return parts.alarms.lasting(topic(id), words);
            }
        }
        if look.is_multiple_of(LOOKS_PER_RAISE) {
            // Where it cannot be written the drive says so itself.
            let _ = drive.raise_incarnation().await;
        }
        // Where it is not heard now, it is at the next look.
        let present = drive.incarnation();
        if present != raised && ask(parts, drive, run, present).await {
            raised = present;
        }
    }
}

/// Whether there was an answer.
async fn ask(parts: &AdmissionParts, drive: &Drive, run: u64, incarnation: u32) -> bool {
    let id = drive.id();
    let deadline = Deadline::after(parts.env.clock.now(), PATIENCE);
    let after = match parts.meta.control_query(ControlQuery::Drive(id), deadline).await {
        Ok(ControlAnswer::Drive(after)) => after,
        Ok(other) => {
            tracing::error!(drive = %id, ?other, "control group gave an answer that does not fit");
            return false;
        }
        Err(error) => {
            tracing::debug!(drive = %id, %error, "what was seen of the drive is not known yet");
            return false;
        }
    };
    let command = ControlCommand::AdmitDrive { drive: id, incarnation, run, after };
    match parts.meta.control(command, deadline).await {
        Ok(ControlReply::Done) => {
            drive.admit();
            true
        }
        Ok(ControlReply::DriveStale { seen }) => {
            drive.refuse_as_stale();
            let words = format!(
                "{id}: came back as it was earlier (incarnation {incarnation}, {seen} was seen before): it is only read from; format it as a new drive"
            );
            parts.alarms.lasting(topic(id), words);
            true
        }
        // Of an earlier run, or of the time before a raise, and late: asked again.
        Ok(ControlReply::Outdated) => false,
        Ok(ControlReply::Full) => {
            let words =
                format!("{id}: is not admitted, since the cluster remembers as many drives as it can");
            parts.alarms.lasting(topic(id), words);
            false
        }
        Ok(other) => {
            tracing::error!(drive = %id, ?other, "control group gave an answer that does not fit");
            false
        }
        Err(error) => {
            tracing::debug!(drive = %id, %error, "drive is not admitted yet");
            false
        }
    }
}

/// Extents that cannot be told keep the drive from saying that anything is absent: people should know.
fn tell_damage(parts: &AdmissionParts, drive: &Drive) {
    let (id, damage) = (drive.id(), drive.damage());
    let topic = format!("damage of {id}");
    if damage.extents_unknown == 0 && damage.fragments_unreadable == 0 {
        return parts.alarms.over(&topic);
    }
    let words = format!(
        "{id}: {} extents cannot be told (first {:?}), of {} fragments nothing is said at a seal; their slabs have copies elsewhere",
        damage.extents_unknown, damage.extents_unknown_first, damage.fragments_unreadable
    );
    parts.alarms.lasting(topic, words);
}

fn topic(drive: DriveId) -> String {
    format!("standing of {drive}")
}
