//! One life of this node's state: its groups, its standing, its lease of the store. It ends when damage is found; what the store
//! held is set aside then, and the next life begins with nothing and joins the cluster as another voter.

use super::openings::Opened;
use super::start::{self, Kept, OpenGroup, StartError};
use super::{Group, Meta, MetaError};
use crate::codec::GroupKeys;
use crate::control::NodeRecord;
use crate::damage::{Alarms, Damage};
use crate::fault::MetaFault;
use crate::kv::{Integrity, Lease, OrderedKv};
use crate::log::LogError;
use crate::raft_id::RaftId;
use crate::standing::{Founding, Standing};
use crate::syncer::{Syncer, offload};
use futures::future::{Either, join, join_all, select};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use strongroom_env::Env;
use strongroom_types::{GroupId, NodeId};

/// How long a group that is ended may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The groups that run.
#[derive(Default)]
pub(super) struct Running {
    /// As whom; `None` before this life is a member.
    pub(super) id: Option<RaftId>,
    /// `None` is the control group.
    pub(super) groups: BTreeMap<Option<GroupId>, Arc<Group>>,
}

/// Groups that are read and do not run yet, and as whom they are to.
type ReadGroups = (RaftId, Vec<OpenGroup>);

pub(super) struct Life {
    pub(super) lease: Arc<Lease>,
    pub(super) syncer: Syncer,
    pub(super) damage: Damage,
    /// Held while it changes, so that an answer is given after the change it speaks of is durable.
    pub(super) standing: tokio::sync::Mutex<Option<Standing>>,
    /// What was read at the start, until it runs.
    read: Mutex<Option<ReadGroups>>,
    pub(super) running: RwLock<Running>,
    /// Drawn for this life and this run of it: what is asked under it speaks of no other one.
    pub(super) run: u64,
    pub(super) opened: Mutex<Opened>,
    /// The control group has said in this run that no later incarnation was given.
    pub(super) is_present: AtomicBool,
    /// What is in the store of which nodes there are.
    pub(super) remembered: Mutex<BTreeMap<NodeId, NodeRecord>>,
    /// Groups whose leaders have not said yet whether this node, under the id of this life, has part in them.
    pub(super) unasked: Mutex<BTreeSet<Option<GroupId>>>,
    /// Groups that are about to run.
    starting: Mutex<BTreeSet<Option<GroupId>>>,
}

impl Life {
    /// What of its promises is in the store, where its groups are read and do not run.
    pub(super) fn kept(&self) -> Result<BTreeMap<Option<GroupId>, Kept>, LogError> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = read.iter().flat_map(|(_, groups)| groups);
        groups.map(|group| Ok((group.group, group.kept()?))).collect()
    }

    pub(super) fn begin(kv: &Arc<dyn OrderedKv>, env: &Env, alarms: &Alarms) -> Arc<Self> {
        let lease = Lease::new(Arc::clone(kv), alarms.failure().clone());
        let leased: Arc<dyn OrderedKv> = lease.clone();
        let (syncer, damage) = (Syncer::new(Arc::clone(&leased), env), Damage::new(leased, alarms.clone()));
        Arc::new(Self {
            lease,
            syncer,
            damage,
            standing: tokio::sync::Mutex::default(),
            read: Mutex::default(),
            running: RwLock::default(),
            run: env.rng.u64(),
            opened: Mutex::default(),
            is_present: AtomicBool::new(false),
            remembered: Mutex::default(),
            unasked: Mutex::default(),
            starting: Mutex::default(),
        })
    }

    fn end_groups(&self) -> BTreeMap<Option<GroupId>, Arc<Group>> {
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *running).groups
    }

    /// Whether it is a member, and its opening is told.
    pub(super) fn is_open(&self) -> bool {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).is_told()
    }

    /// As whom it takes part; `None` where it does not.
    pub(super) fn id(&self) -> Option<RaftId> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).id
    }
}

impl Meta {
    pub(super) fn life(&self) -> Arc<Life> {
        Arc::clone(&self.life.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins with what is in the store: where that cannot be trusted, with nothing.
    pub(super) async fn wake(&self) -> Result<(), MetaError> {
        let compared = !self.config.faults.has(MetaFault::RollBackUnnoticed)
            && !self.config.faults.has(MetaFault::ReuseRaftId);
        if let Integrity::Lost(loss) = self.kv.integrity()
            && compared
        {
            self.renew(&loss.to_string()).await?;
        }
        loop {
            let life = self.life();
            let woken = self.wake_life(&life).await;
            match (woken, life.damage.reason()) {
                (Ok(()), None) => return Ok(()),
                (Err(error), None) => return Err(error.into()),
                (_, Some(reason)) => self.renew(&reason).await?,
            }
        }
    }

    async fn wake_life(&self, life: &Arc<Life>) -> Result<(), Box<StartError>> {
        let mut standing = life.standing.lock().await;
        let found = Standing::load(&*life.lease).map_err(|source| {
            if source.is_damage() {
                life.damage.found(&source);
            }
            Box::new(StartError::State { group: None, source })
        })?;
        *standing = match found {
            None if self.config.faults.has(MetaFault::ReuseRaftId) => {
                Some(Standing::Member { incarnation: 0, founding: 0 })
            }
            found => found,
        };
        self.recall_members(life).map_err(|source| {
            if source.is_damage() {
                life.damage.found(&source);
            }
            Box::new(StartError::State { group: None, source })
        })?;
        match *standing {
            // A store that cannot be read is told at once; its groups run once this opening is known (`join`).
            Some(Standing::Member { incarnation, .. }) => {
                let groups = self.read_groups(life, incarnation)?;
                *life.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(groups);
                Ok(())
            }
            Some(Standing::Promised { .. } | Standing::Enrolling { .. }) | None => Ok(()),
        }
    }

    /// The voters of the groups that this store is, or is to be, founded with.
    pub(super) fn founding(&self, life: &Life) -> Result<Option<Founding>, Box<StartError>> {
        let found = Founding::load(&*life.lease).map_err(|source| {
            if source.is_damage() {
                life.damage.found(&source);
            }
            Box::new(StartError::State { group: None, source })
        })?;
        Ok(found.or_else(|| self.config.founding.clone()))
    }

    /// Reads the groups of which the store has anything, and those that it is founded with: those that it had part in under this id.
    fn read_groups(&self, life: &Life, incarnation: u32) -> Result<ReadGroups, Box<StartError>> {
        let node = self.config.node;
        let id = RaftId::new(node, incarnation).ok_or(Box::new(StartError::NodeId { node }))?;
        // One that enrolled founds nothing.
        let founding = if incarnation == 0 { self.founding(life)? } else { None };
        let mut opened = Vec::new();
        for group in self.all_groups() {
            let voters = founding.as_ref().map_or(&[][..], |founding| founding.of(group));
            let founders = voters.contains(&node).then_some(voters);
            let (start, end) = GroupKeys::new(group).all();
            let has_any = || life.lease.range(&start, &end, 1).map(|found| !found.is_empty());
            let has_part = founders.is_some()
                || has_any().map_err(|source| StartError::State { group, source: source.into() })?;
            if has_part {
                opened.push(start::open_group(&self.env, id, (group, founders), life, self.config.faults)?);
            }
        }
        Ok((id, opened))
    }

    /// Starts the groups that this node has part in, as this incarnation. All are read before any runs.
    pub(super) async fn start_groups(
        &self,
        life: &Arc<Life>,
        incarnation: u32,
    ) -> Result<(), Box<StartError>> {
        let read = life.read.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (id, opened) = match read {
            Some(groups) => groups,
            None => self.read_groups(life, incarnation)?,
        };
        let mut groups = BTreeMap::new();
        for opened in opened {
            let group = opened.group;
            match start::start_group(&self.env, id, Arc::clone(&self.raft_config), opened).await {
                Ok(started) => {
                    groups.insert(group, Arc::new(started));
                }
                Err(error) => {
                    self.stop(groups).await;
                    return Err(error);
                }
            }
        }
        if incarnation > 0 {
            // Earlier ones of this node may have had part in any.
            let unasked = self.all_groups().filter(|group| !groups.contains_key(group)).collect();
            *life.unasked.lock().unwrap_or_else(PoisonError::into_inner) = unasked;
        }
        let mut running = life.running.write().unwrap_or_else(PoisonError::into_inner);
        *running = Running { id: Some(id), groups };
        Ok(())
    }

    /// A leader counts on this node in a group that does not run here: from now on it does. Empty where the store has nothing of it, which is so only
    /// where this id never had part in it.
    pub(super) async fn begin_group(&self, life: &Arc<Life>, id: RaftId, group: Option<GroupId>) {
        if !life.starting.lock().unwrap_or_else(PoisonError::into_inner).insert(group) {
            return;
        }
        let is_there =
            || life.running.read().unwrap_or_else(PoisonError::into_inner).groups.contains_key(&group);
        if !is_there() {
            tracing::info!(group = ?group, %id, "begins to take part in a group");
            let started = match start::open_group(&self.env, id, (group, None), life, self.config.faults) {
                Ok(opened) => start::start_group(&self.env, id, Arc::clone(&self.raft_config), opened).await,
                Err(error) => Err(error),
            };
            match started {
                Ok(started) => self.take_in(life, id, group, Arc::new(started)).await,
                Err(error) => {
                    tracing::error!(group = ?group, error = &error as &dyn std::error::Error, "group cannot be started");
                }
            }
        }
        life.starting.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
    }

    async fn take_in(&self, life: &Life, id: RaftId, group: Option<GroupId>, started: Arc<Group>) {
        let ended = {
            let mut running = life.running.write().unwrap_or_else(PoisonError::into_inner);
            match running.id == Some(id) {
                true => running.groups.insert(group, started),
                // This life ended meanwhile.
                false => Some(started),
            }
        };
        life.unasked.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
        self.stop(ended.map(|group| (None, group)).into_iter().collect()).await;
    }

    /// Has no part in a group any more. What the store has of it stays: should this id ever vote there again, it knows what it voted.
    pub(super) fn leave_group(&self, life: &Arc<Life>, group: Option<GroupId>) {
        // Where it is being begun the next look comes to this again.
        if !life.starting.lock().unwrap_or_else(PoisonError::into_inner).insert(group) {
            return;
        }
        let left = life.running.write().unwrap_or_else(PoisonError::into_inner).groups.remove(&group);
        let life = Arc::clone(life);
        let ends = async move {
            if let Some(left) = left {
                tracing::info!(group = ?group, "has no part in this group any more");
                // Its task is gone already where this fails. Until it has ended, however long that takes, no other is begun over the same records.
                let _ = left.raft.shutdown().await;
            }
            life.starting.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
        };
        self.env.spawn.spawn("meta.leave-group", Box::pin(ends));
    }

    async fn stop(&self, groups: BTreeMap<Option<GroupId>, Arc<Group>>) {
        let stops = join_all(groups.values().map(|group| async {
            // Its task is gone already where this fails.
            let _ = group.raft.shutdown().await;
        }));
        select(Box::pin(stops), self.env.clock.sleep(STOP_PATIENCE)).await;
    }

    /// Stops this node's groups and waits for them. Callers still waiting get `Unavailable` or `Unknown`.
    pub async fn shutdown(&self) {
        self.stop(self.life().end_groups()).await;
    }

    /// Ends the present life and begins the next one, with an empty store.
    async fn renew(&self, reason: &str) -> Result<(), MetaError> {
        let life = self.life();
        self.stop(life.end_groups()).await;
        self.alarms.raise(&format!(
            "damaged or incomplete ({reason}); its content is set aside, and this node asks its peers for it under a new Raft id"
        ));
        let (lease, kv, words) = (Arc::clone(&life.lease), Arc::clone(&self.kv), reason.to_owned());
        let done = offload(&self.env.spawn, "meta.set-aside", move || {
            lease.take_back();
            kv.set_aside(&words)
        })
        .await;
        match done {
            Some(Ok(())) => {}
            Some(Err(source)) => return Err(Box::new(StartError::SetAside { source }).into()),
            None => return Err(MetaError::Unavailable),
        }
        *self.life.write().unwrap_or_else(PoisonError::into_inner) =
            Life::begin(&self.kv, &self.env, &self.alarms);
        Ok(())
    }

    /// Joins the cluster where that is not done, and begins another life whenever damage is found.
    pub(super) async fn live(self: Arc<Self>) {
        loop {
            let life = self.life();
            let lived = Box::pin(async {
                self.join(&life).await;
                join(self.tell_the_rest(&life), self.take_place(&life)).await;
                std::future::pending::<()>().await;
            });
            let reason = match select(lived, Box::pin(life.damage.any())).await {
                Either::Left(((), _)) => unreachable!("it waits for ever"),
                Either::Right((reason, _)) => reason,
            };
            if let Err(error) = self.renew(&reason).await {
                self.alarms.raise(&format!("cannot be set aside, so this node stays out: {error}"));
                return;
            }
        }
    }
}
