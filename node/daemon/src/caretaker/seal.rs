//! One sealing attempt: learn where the locators end, ask the holders, decide, commit, tell the holders.
//!
//! Where the locators end is the writer's word if it was done with the slab ([`GroupCommand::BeginSeal`]). A writer that is gone, or was
//! taken for gone, is fenced in every data group first; then nothing of its session can be committed any more, and the groups know.

use super::waits::Waits;
use super::{CaretakerParts, META_PATIENCE};
use crate::cluster::CallError;
use crate::events::Event;
use crate::limits::SESSIONS_FENCED_MAX;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use strongroom_core::sealer::{self, Answer, Attempt, Decision, GivenOut, Seal as Decided};
use strongroom_core::{AckRule, FragmentSet, Spread};
use strongroom_format::wire::message::{
    FragmentAddress, Refusal, Request, Response, Seal, SealReport, Settle,
};
use strongroom_meta::MetaError;
use strongroom_meta::group::{GroupAnswer, GroupCommand, GroupQuery, GroupReply};
use strongroom_types::{
    ClusterView, Deadline, Epoch, FragmentIndex, GroupId, Health, Instant, NodeId, SessionId, SlabId,
    SlabRecord,
};

/// How long a holder may take: where a writer's run has ended it reads every row of the slab that it has.
const SEAL_PATIENCE: Duration = Duration::from_secs(10);
/// How long a holder may take to cut to the agreed length.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a seal waits for silent holders before people are told.
const WAIT_PATIENCE: Duration = Duration::from_secs(30);

/// What is remembered between attempts. All of it is a saving of work, or of alarms.
#[derive(Default)]
pub(super) struct Seals {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Sessions that are fenced, and in which groups.
    fenced: BTreeSet<(SessionId, GroupId)>,
    /// Sessions that could not be fenced in every group on this walk: their other slabs need not wait for the same group.
    unfenced: BTreeSet<SessionId>,
    waits: Waits,
}

impl Seals {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// To be called before each walk.
    pub(super) fn begin_walk(&self) {
        self.lock().unfenced.clear();
    }

    /// Forgets slabs that are not being sealed any more, or not here.
    pub(super) fn keep_only(&self, parts: &CaretakerParts, sealing: &BTreeSet<SlabId>) {
        let over = self.lock().waits.keep_only(sealing);
        over.into_iter().for_each(|slab| parts.alarms.over(&topic(slab)));
    }

    /// Tries to seal a fenced slab. Where too little is known it is left as it is for the next walk.
    pub(super) async fn seal(&self, parts: &CaretakerParts, record: SlabRecord) {
        let slab = record.slab;
        let answering = answering(&parts.monitor.view(), &record);
        let waiting = Waiting { slab, epoch: record.epoch, answering };
        if !self.lock().waits.is_due(slab, record.epoch, answering, parts.env.clock.now()) {
            return;
        }
        let spread = match Spread::of(&record, &parts.monitor.view()) {
            Ok(spread) => spread,
            Err(error) => {
                self.wait(parts, waiting, format!("{slab}: cannot be sealed: {error}"));
                return;
            }
        };
        let given_out = match self.given_out(parts, &record).await {
            Ok(given_out) => given_out,
            Err(error) => {
                tracing::debug!(%slab, %error, "it is not known yet where the locators end");
                let words =
                    "its seal waits: a data group does not answer, so its writer cannot be fenced there";
                self.wait(parts, waiting, format!("{slab}: {words}"));
                return;
            }
        };
        let asked =
            FragmentAddress::all_of(&record).map(|(node, address)| ask(parts, &record, node, address));
        let said = join_all(asked).await;
        let answers: Vec<Answer> = said.iter().map(answer).collect();
        let epoch = record.epoch;
        let attempt =
            Attempt { spread: &spread, rule: AckRule::Zone, epoch, given_out, mutants: parts.mutants };
        match sealer::decide(attempt, &answers) {
            Decision::Wait { silent, alarm: None } => {
                tracing::info!(%slab, ?silent, "seal waits for holders that do not answer");
                let why = why(&said, silent);
                let words = format!(
                    "{slab}: its seal waits, since too many holders are silent: {why}; bring one of them back"
                );
                let since = self.wait(parts, waiting, words);
                let is_in_doubt = !spread.tolerates(AckRule::Zone, gone(&said));
                if is_in_doubt && parts.env.clock.now().since(since) >= WAIT_PATIENCE {
                    parts.alarms.damage(&format!(
                        "{slab}: objects point into it, and the drives with its copies are gone: {why}; bring one of them back"
                    ));
                }
            }
            // This attempt may have stood still while others sealed the slab, and holders gave back what it asked for.
            Decision::Wait { alarm: Some(_), .. } | Decision::Contested { .. }
                if !still_sealing(parts, &record).await => {}
            Decision::Wait { silent, alarm: Some(loss) } if silent.is_empty() => {
                self.note(parts, waiting);
                parts.alarms.damage(&format!("{slab}: {loss}; it stays as it is"));
            }
            Decision::Wait { silent, alarm: Some(loss) } => {
                let why = why(&said, silent);
                let words = format!("{slab}: {loss}; only silent holders may have them: {why}");
                parts.alarms.lasting(topic(slab), words);
                self.note(parts, waiting);
            }
            Decision::Contested { sequence, silent } => {
                self.note(parts, waiting);
                parts.alarms.damage(&format!(
                    "{slab}: holders differ at {sequence} and none is in the majority ({silent:?} silent)"
                ));
            }
            Decision::Seal(decided) => commit(parts, &record, decided).await,
        }
    }

    /// Notes that the seal waits, and since when; raises the alarm where that lasts.
    fn wait(&self, parts: &CaretakerParts, waiting: Waiting, words: String) -> Instant {
        let since = self.note(parts, waiting);
        if parts.env.clock.now().since(since) >= WAIT_PATIENCE {
            parts.alarms.lasting(topic(waiting.slab), words);
        }
        since
    }

    fn note(&self, parts: &CaretakerParts, waiting: Waiting) -> Instant {
        let Waiting { slab, epoch, answering } = waiting;
        self.lock().waits.note(slab, epoch, answering, parts.env.clock.now())
    }

    async fn given_out(&self, parts: &CaretakerParts, record: &SlabRecord) -> Result<GivenOut, MetaError> {
        if let Some(rows) = record.given_out {
            return Ok(GivenOut::Rows(rows));
        }
        self.fence(parts, record.session).await?;
        let groups = (0..parts.groups).map(GroupId::new);
        let asked = groups.map(|group| async move {
            let query = GroupQuery::UsedUpto(record.slab);
            match parts.meta.read(group, query, deadline(parts)).await? {
                GroupAnswer::UsedUpto(bytes) => Ok(bytes),
                // The answer may be a peer's: another kind is its fault, and no reason to fall.
                _ => Err(MetaError::Failed),
            }
        });
        let reached = try_join_all(asked).await?;
        Ok(GivenOut::Bytes(reached.into_iter().max().unwrap_or(0)))
    }

    async fn fence(&self, parts: &CaretakerParts, session: SessionId) -> Result<(), MetaError> {
        let open: Vec<GroupId> = {
            let state = self.lock();
            if state.unfenced.contains(&session) {
                return Err(MetaError::Unavailable);
            }
            let groups = (0..parts.groups).map(GroupId::new);
            groups.filter(|group| !state.fenced.contains(&(session, *group))).collect()
        };
        if open.is_empty() {
            return Ok(());
        }
        let asked = open.into_iter().map(|group| async move {
            let command = GroupCommand::FenceSession { session };
            match parts.meta.write(group, command, deadline(parts)).await? {
                GroupReply::Done => Ok(group),
                _ => Err(MetaError::Failed),
            }
        });
        let answers = join_all(asked).await;
        let mut state = self.lock();
        let mut result = Ok(());
        for answer in answers {
            match answer {
                Ok(group) => {
                    if state.fenced.len() >= SESSIONS_FENCED_MAX {
                        state.fenced.pop_first();
                    }
                    state.fenced.insert((session, group));
                }
                Err(error) => result = Err(error),
            }
        }
        if result.is_ok() {
            tracing::info!(%session, "session is fenced in every data group");
        } else {
            state.unfenced.insert(session);
        }
        result
    }
}

/// Whether the table, asked linearizably, still has the slab as this attempt knows it.
async fn still_sealing(parts: &CaretakerParts, record: &SlabRecord) -> bool {
    let asked = parts.meta.read(record.slab.group(), GroupQuery::Slab(record.slab), deadline(parts)).await;
    matches!(asked, Ok(GroupAnswer::Slab(Some(present))) if present == *record)
}

fn topic(slab: SlabId) -> String {
    format!("seal of {slab}")
}

/// A seal that is tried.
#[derive(Clone, Copy)]
struct Waiting {
    slab: SlabId,
    epoch: Epoch,
    /// Fragments whose nodes answer.
    answering: FragmentSet,
}

fn answering(view: &ClusterView, record: &SlabRecord) -> FragmentSet {
    let is_up = |node: NodeId| view.node(node).is_some_and(|node| node.health == Health::Up);
    let answering = FragmentAddress::all_of(record).filter(|(node, _)| is_up(*node));
    answering.map(|(_, address)| address.fragment).collect()
}

/// What holders answered, by fragment.
type Said = Result<SealReport, CallError>;

fn answer(said: &Said) -> Answer {
    said.as_ref().map_or(Answer::Silent, |report| Answer::Report(report.clone()))
}

/// Why holders gave no word, for people.
fn why(said: &[Said], silent: FragmentSet) -> String {
    let why = fragments(said).filter(|(fragment, _)| silent.contains(*fragment));
    let why: Vec<String> = why
        .map(|(fragment, said)| match said {
            Ok(report) => format!("{fragment} answers for {}", report.epoch),
            Err(error) => error.to_string(),
        })
        .collect();
    why.join(", ")
}

/// Fragments whose nodes answer that they do not have the drive: these do not come by waiting.
fn gone(said: &[Said]) -> FragmentSet {
    let is_gone = |said: &Said| matches!(said, Err(CallError::Refused { refusal: Refusal::NoSuchDrive, .. }));
    fragments(said).filter(|(_, said)| is_gone(said)).map(|(fragment, _)| fragment).collect()
}

fn fragments(said: &[Said]) -> impl Iterator<Item = (FragmentIndex, &Said)> {
    (0u8..).map(FragmentIndex::new).zip(said)
}

fn deadline(parts: &CaretakerParts) -> Deadline {
    Deadline::after(parts.env.clock.now(), META_PATIENCE)
}

/// Fences one holder, which says what it has.
pub(super) async fn ask(
    parts: &CaretakerParts,
    record: &SlabRecord,
    node: NodeId,
    address: FragmentAddress,
) -> Said {
    let request = Request::Seal(Seal { address, profile: record.profile, epoch: record.epoch });
    let said = match parts.peers.ask(node, &request, Bytes::new(), SEAL_PATIENCE).await {
        Ok((Response::Sealed(report), _)) => Ok(report),
        Ok(_) => Err(CallError::Misfit { from: node }),
        Err(error) => Err(error),
    };
    if let Err(error) = &said {
        tracing::debug!(slab = %record.slab, %node, %error, "holder gives no word on a fenced slab");
    }
    said
}

async fn commit(parts: &CaretakerParts, record: &SlabRecord, decided: Decided) {
    let Decided { sealed, settle, alarm } = decided;
    let length = Length { rows: sealed.rows, root_crc32c: sealed.root_crc32c };
    let command = GroupCommand::CommitSeal { slab: record.slab, epoch: record.epoch, sealed };
    match parts.meta.write(record.slab.group(), command, deadline(parts)).await {
        Ok(GroupReply::Slab(_)) => {
            // Only now: to an attempt that is out of date, holders say that they have nothing.
            if let Some(loss) = alarm {
                parts.alarms.damage(&format!("{}: {loss}", record.slab));
            }
        }
        Ok(other) => {
            return tracing::debug!(slab = %record.slab, ?other, "slab was sealed otherwise meanwhile");
        }
        Err(error) => return tracing::debug!(slab = %record.slab, %error, "seal not committed yet"),
    }
    tracing::info!(slab = %record.slab, rows = length.rows, "slab sealed");
    parts.events.tell(Event::SlabSealed { slab: record.slab, rows: length.rows });
    parts.jobs.seal.advance(1);
    tell(parts, record, length, settle).await;
}

/// What a slab was sealed at.
#[derive(Clone, Copy)]
pub(super) struct Length {
    pub(super) rows: u32,
    pub(super) root_crc32c: u32,
}

/// Tells holders of every row where the slab ends.
pub(super) async fn tell(parts: &CaretakerParts, record: &SlabRecord, length: Length, whole: FragmentSet) {
    let Length { rows, root_crc32c } = length;
    let whole = FragmentAddress::all_of(record).filter(|(_, address)| whole.contains(address.fragment));
    let tell = whole.map(|(node, address)| {
        let settle = Settle { address, epoch: record.epoch, rows, root_crc32c };
        async move {
            // A holder that misses this keeps rows beyond the length; nothing points to them.
            let told = parts.peers.order(node, &Request::Settle(settle), Bytes::new(), SETTLE_PATIENCE).await;
            if let Err(error) = told {
                tracing::debug!(slab = %record.slab, %node, %error, "holder was not told the length");
            }
        }
    });
    join_all(tell).await;
}
