//! The shell around the slab writer: needles in, locators out once they are durable in more than one zone.
//!
//! One task owns the state machine (`strongroom_core::writer`); it carries out what the machine asks for: slabs are opened through the slab
//! table, rows go to their holders, rolled slabs are fenced. All the deciding is the machine's.

mod orphans;

use crate::cluster::{CallError, Monitor, Peers};
use crate::limits::INGEST_EVENTS_WAITING_MAX;
use crate::pins::{Pinned, Pins};
use crate::session::Session;
use bytes::Bytes;
use orphans::Orphans;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use strongroom_core::limits::NEEDLE_ALIGN_BYTES;
use strongroom_core::placement::{self, PlacementError};
use strongroom_core::writer::{
    Action, Actions, Event, Needle, SlabWriter, Ticket, WriteFailure, WriterConfig,
};
use strongroom_core::{Spread, SpreadError};
use strongroom_env::Env;
use strongroom_format::wire::message::{Append, Refusal, Request};
use strongroom_meta::group::{GroupCommand, GroupReply};
use strongroom_meta::{Meta, MetaError};
use strongroom_types::{
    Deadline, DriveId, Epoch, GroupId, Holder, Instant, Locator, NodeId, RowSequence, SessionId, SlabId,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// How long a holder may take to answer an append before the call is given up. The writer turns to another slab long before.
const APPEND_PATIENCE: Duration = Duration::from_secs(5);
/// How long the slab table may take to open a slab.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);
/// How long a needle may wait for room before its client is told to slow down.
const ROOM_PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to fence a rolled slab.
const ROLL_RETRY: Duration = Duration::from_millis(500);
/// Between two looks whether the slabs that are written have copies on drives that are to be emptied.
const LEAVING_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a needle was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// Too much waits already.
    #[error("too many bytes wait for a row")]
    Busy,
    /// It was tried.
    #[error(transparent)]
    Failed(#[from] WriteFailure),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Where a needle is.
#[derive(Debug)]
pub struct Stored {
    /// It.
    pub locator: Locator,
    /// The session that its slab belongs to; the commit of the locator names it.
    pub session: SessionId,
    /// To be kept until the locator is committed, or given up: until then its slab is not reclaimed.
    pub pinned: Pinned,
}

/// An encoded needle, ready to be placed.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Header and frames.
    pub bytes: Bytes,
    /// CRC32C of the header.
    pub header_crc32c: u32,
    /// Bytes of the object that it carries.
    pub plain_len_bytes: u32,
}

enum Command {
    Needle { encoded: Encoded, reply: oneshot::Sender<Result<Stored, IngestError>> },
    Event(Event),
}

/// Hands needles to the writer.
#[derive(Clone)]
pub struct Ingest {
    commands: mpsc::Sender<Command>,
    session: Session,
    env: Env,
    /// Bytes that the writer lets wait. Needles wait here, and with them the sockets that they come from; the writer itself would
    /// refuse them, in the middle of a body, whenever a few clients send large objects at once.
    room: Arc<Semaphore>,
}

/// What the shell needs.
pub struct IngestParts {
    /// The world.
    pub env: Env,
    /// This node.
    pub node: NodeId,
    /// Its present session.
    pub session: Session,
    /// Calls to peers.
    pub peers: Peers,
    /// The view for placement.
    pub monitor: Arc<Monitor>,
    /// The slab table.
    pub meta: Arc<Meta>,
    /// Data groups of the cluster.
    pub groups: u16,
    /// How the writer behaves.
    pub config: WriterConfig,
}

impl Ingest {
    /// Starts the writer's task.
    pub fn start(parts: IngestParts) -> Self {
        let (commands, received) = mpsc::channel(INGEST_EVENTS_WAITING_MAX);
        let (env, session) = (parts.env.clone(), parts.session.clone());
        let room = usize::try_from(parts.config.waiting_len_bytes_max).expect("what waits is in memory");
        let shell = Shell {
            writer: SlabWriter::new(parts.config.clone()),
            actions: Actions::default(),
            waiting: BTreeMap::new(),
            tickets: 0,
            pins: Pins::default(),
            commands: commands.downgrade(),
            parts: Arc::new(parts),
            orphans: Arc::default(),
        };
        let orphans = shell.orphans.clone().watch(shell.parts.clone());
        env.spawn.spawn("orphans", Box::pin(orphans));
        let (watched, told) = (shell.parts.clone(), commands.downgrade());
        env.spawn.spawn("ingest", Box::pin(shell.run(received)));
        env.spawn.spawn("leaving drives", Box::pin(watch_leaving(watched, told)));
        Self { commands, session, env, room: Arc::new(Semaphore::new(room)) }
    }

    /// Hands a needle over; completes once it is durable in more than one zone.
    ///
    /// # Errors
    /// See [`IngestError`]; the needle may be garbage in some slab, and nothing points to it.
    pub async fn store(&self, encoded: Encoded) -> Result<Stored, IngestError> {
        let len_bytes = u32::try_from(encoded.bytes.len().next_multiple_of(NEEDLE_ALIGN_BYTES as usize));
        let len_bytes = len_bytes.expect("a needle is far below 4 GiB");
        let _room = tokio::select! {
            biased;
            room = self.room.acquire_many(len_bytes) => room.expect("never closed"),
            () = self.env.clock.sleep(ROOM_PATIENCE) => return Err(IngestError::Busy),
        };
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Needle { encoded, reply }).await.map_err(|_| IngestError::Stopping)?;
        answer.await.unwrap_or(Err(IngestError::Stopping))
    }

    /// `session` was found to be fenced: writes on under a new one. What is under way under the old one comes to nothing when it is committed.
    pub async fn session_over(&self, session: SessionId) {
        self.session.renew(session);
        // If the node is stopping there is nothing left to write.
        let _ = self.commands.send(Command::Event(Event::SessionOver { session })).await;
    }

    /// Rolls the slab that is being written, so that it will be sealed.
    pub async fn seal_all(&self) {
        // If the node is stopping there is nothing left to roll here; others will seal.
        let _ = self.commands.send(Command::Event(Event::SealAll)).await;
    }
}

struct Shell {
    writer: SlabWriter,
    actions: Actions,
    waiting: BTreeMap<Ticket, oneshot::Sender<Result<Stored, IngestError>>>,
    tickets: u64,
    pins: Pins,
    /// For the tasks that report back; weak, so that the writer ends when nobody can hand it needles any more.
    commands: mpsc::WeakSender<Command>,
    parts: Arc<IngestParts>,
    orphans: Arc<Orphans>,
}

impl Shell {
    async fn run(mut self, mut received: mpsc::Receiver<Command>) {
        self.handle(Event::Tick);
        loop {
            let command = match self.writer.next_wakeup() {
                None => received.recv().await,
                Some(at) => {
                    let now = self.parts.env.clock.now();
                    let wake = self.parts.env.clock.sleep(at.since(now));
                    tokio::select! {
                        biased;
                        command = received.recv() => command,
                        () = wake => Some(Command::Event(Event::Tick)),
                    }
                }
            };
            match command {
                None => return,
                Some(Command::Event(event)) => self.handle(event),
                Some(Command::Needle { encoded, reply }) => {
                    self.tickets += 1;
                    let ticket = Ticket::new(self.tickets);
                    self.waiting.insert(ticket, reply);
                    let Encoded { bytes, header_crc32c, plain_len_bytes } = encoded;
                    self.handle(Event::Needle(Needle { ticket, bytes, header_crc32c, plain_len_bytes }));
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now: Instant = self.parts.env.clock.now();
        self.writer.handle(now, event, &mut self.actions);
        while let Some(action) = self.actions.pop() {
            match action {
                Action::Open { avoid } => self.open(&avoid),
                Action::Send { slab, fragment, holder, append, payload } => {
                    self.send(slab, fragment, holder, append, payload);
                }
                Action::Durable { ticket, locator, session } => {
                    let pinned = self.pins.pin(locator.slab);
                    self.answer(ticket, Ok(Stored { locator, session, pinned }));
                }
                Action::Failed { ticket, reason } => self.answer(ticket, Err(reason.into())),
                Action::Busy(needle) => self.answer(needle.ticket, Err(IngestError::Busy)),
                Action::Roll { slab, epoch, given_out, reason } => {
                    tracing::debug!(%slab, %given_out, ?reason, "slab rolled");
                    self.roll(slab, epoch, given_out);
                }
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, result: Result<Stored, IngestError>) {
        let reply = self.waiting.remove(&ticket).expect("each ticket has one outcome");
        // The client may have gone; then the needle is garbage, and nothing points to it.
        let _ = reply.send(result);
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = Option<Event>> + Send + 'static) {
        let commands = self.commands.clone();
        let task = async move {
            if let Some(event) = task.await
                && let Some(commands) = commands.upgrade()
            {
                // Where the channel is closed the writer is gone, and nobody waits for the event.
                let _ = commands.send(Command::Event(event)).await;
            }
        };
        self.parts.env.spawn.spawn(name, Box::pin(task));
    }

    fn open(&self, avoid: &[NodeId]) {
        let (parts, commands, orphans) = (self.parts.clone(), self.commands.clone(), self.orphans.clone());
        let avoid = avoid.to_vec();
        self.spawn("open slab", async move {
            let turn = orphans.turn().await;
            let session = parts.session.present();
            let opened = open_slab(&parts, session, &avoid, &orphans).await;
            drop(turn);
            match opened {
                Ok(event) => {
                    // Fenced while the table was asked: to be given up as soon as it is there.
                    if parts.session.present() != session
                        && let Some(commands) = commands.upgrade()
                    {
                        let _ = commands.send(Command::Event(event)).await;
                        return Some(Event::SessionOver { session });
                    }
                    Some(event)
                }
                Err(reason) => {
                    tracing::warn!(%reason, "no slab could be opened");
                    if matches!(reason, OpenSlabError::SessionFenced)
                        && let Some(commands) = commands.upgrade()
                    {
                        parts.session.renew(session);
                        // Where the channel is closed the writer is gone.
                        let _ = commands.send(Command::Event(Event::SessionOver { session })).await;
                    }
                    Some(Event::OpenFailed)
                }
            }
        });
    }

    fn send(
        &self,
        slab: SlabId,
        fragment: strongroom_types::FragmentIndex,
        holder: Holder,
        append: Append,
        payload: Bytes,
    ) {
        let parts = self.parts.clone();
        let sequence = append.sequence;
        self.spawn("append", async move {
            let request = Request::Append(append);
            let answer = parts.peers.order(holder.node, &request, payload, APPEND_PATIENCE).await;
            Some(match answer {
                Ok(()) => Event::Acked { slab, fragment, sequence },
                Err(error) => {
                    let fenced = matches!(&error, CallError::Refused { refusal: Refusal::Fenced { .. }, .. });
                    tracing::debug!(%slab, %fragment, %sequence, %error, "append failed");
                    Event::HolderFailed { slab, fragment, fenced }
                }
            })
        });
    }

    /// Fences a rolled slab, and says how far its locators reach; then, once none of them is on its way here any more, that this is so. Its group's leader does
    /// the rest. Tried until the table says it is done: a slab that nobody fences would stay open as long as this session lives.
    fn roll(&self, slab: SlabId, epoch: Epoch, given_out: RowSequence) {
        let (parts, pins, orphans) = (self.parts.clone(), self.pins.clone(), self.orphans.clone());
        self.spawn("roll slab", async move {
            let command = GroupCommand::BeginSeal { slab, epoch, given_out: Some(given_out) };
            if tell_table(&parts, slab, command).await {
                orphans.rolled(slab);
            }
            while pins.has(slab) {
                parts.env.clock.sleep(ROLL_RETRY).await;
            }
            tell_table(&parts, slab, GroupCommand::WriterDone { slab }).await;
            None
        });
    }
}

/// Tells the writer of drives that are to be emptied, as long as it could write without them.
async fn watch_leaving(parts: Arc<IngestParts>, commands: mpsc::WeakSender<Command>) {
    loop {
        parts.env.clock.sleep(LEAVING_LOOK_EVERY).await;
        let view = parts.monitor.view();
        let drives = view.nodes.iter().flat_map(|node| &node.drives).filter(|drive| drive.leaving);
        let drives: BTreeSet<DriveId> = drives.map(|drive| drive.drive).collect();
        let is_needed = || placement::place_hot(&view, &[], 0).map_or(true, |place| place.leaving);
        if drives.is_empty() || is_needed() {
            continue;
        }
        let Some(commands) = commands.upgrade() else { return };
        // Where the channel is closed the writer is gone.
        let _ = commands.send(Command::Event(Event::DrivesLeave { drives: Arc::new(drives) })).await;
    }
}

/// Has the slab table take a command about a slab of this writer's, until it answers; whether it knows by then what it was told.
async fn tell_table(parts: &IngestParts, slab: SlabId, command: GroupCommand) -> bool {
    loop {
        let deadline = Deadline::after(parts.env.clock.now(), OPEN_PATIENCE);
        match parts.meta.write(slab.group(), command.clone(), deadline).await {
            // Differs: somebody else has fenced it.
            Ok(GroupReply::Slab(_) | GroupReply::SlabDiffers(_) | GroupReply::NoSuchSlab) => return true,
            Ok(other) => {
                tracing::error!(%slab, ?other, "slab table gave an answer that does not fit");
                return false;
            }
            Err(error) => tracing::debug!(%slab, %error, ?command, "slab table was not told yet"),
        }
        parts.env.clock.sleep(ROLL_RETRY).await;
    }
}

/// Why there is no new slab.
#[derive(Debug, thiserror::Error)]
enum OpenSlabError {
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error(transparent)]
    Spread(#[from] SpreadError),
    #[error(transparent)]
    Table(#[from] MetaError),
    #[error("the session is fenced")]
    SessionFenced,
    #[error("slab table answered {0:?}")]
    Misfit(Box<GroupReply>),
}

async fn open_slab(
    parts: &IngestParts,
    session: SessionId,
    avoid: &[NodeId],
    orphans: &Orphans,
) -> Result<Event, OpenSlabError> {
    let view = parts.monitor.view();
    let place = placement::place_hot(&view, avoid, parts.env.rng.u64())?;
    let group =
        GroupId::new(u16::try_from(parts.env.rng.u64() % u64::from(parts.groups)).expect("groups are u16"));
    let command = GroupCommand::OpenSlab {
        writer: parts.node,
        session,
        profile: place.profile,
        holders: place.holders,
    };
    let deadline = Deadline::after(parts.env.clock.now(), OPEN_PATIENCE);
    let answer = parts.meta.write(group, command, deadline).await;
    // Whatever comes of it but a slab for the writer: one may be open all the same.
    let doubt = || orphans.doubt(group, parts.env.clock.now());
    match answer.inspect_err(|_| doubt())? {
        GroupReply::Slab(record) => {
            let spread = Spread::of(&record, &view).inspect_err(|_| doubt())?;
            orphans.given(record.slab);
            Ok(Event::Opened { record: Box::new(record), spread: Box::new(spread) })
        }
        GroupReply::SessionFenced => Err(OpenSlabError::SessionFenced),
        other => Err(OpenSlabError::Misfit(Box::new(other))),
    }
}
