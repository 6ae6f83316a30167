//! What is done to the cluster, one at a time, and taken back.
//!
//! Processes, power and network fail anywhere; media are damaged in one zone only, which is what the cluster promises to survive at any
//! moment. After each fault the cluster must become whole before the next one.

use super::clients::Load;
use super::limits::{PAUSE_MAX, RECOVERY_PATIENCE};
use super::network::{Cut, Network};
use super::nodes::Nodes;
use crate::faultfs::control::Order;
use crate::faultfs::weather::{Counts, Weather};
use crate::sim::draws::Draws;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A fault. The names are those of the report and of `--only`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL to a node.
    KillNode,
    /// SIGKILL to the leader of a group.
    KillLeader,
    /// SIGKILL to a zone.
    KillZone,
    /// SIGTERM to a node, then a start.
    RestartNode,
    /// SIGTERM to a zone, then a start.
    RestartZone,
    /// SIGSTOP to a node, for up to a minute.
    PauseNode,
    /// SIGSTOP to the leader of a group, for up to a minute.
    PauseLeader,
    /// Power cut of a node: SIGKILL, and what it had not flushed is lost in part.
    PowerNode,
    /// Power cut of a zone.
    PowerZone,
    /// Power cut of the whole cluster.
    PowerAll,
    /// Everything from and to a zone vanishes.
    IsolateZone,
    /// Everything between a zone and the others vanishes, clients still reach it.
    PartitionZone,
    /// What a zone sends to the others vanishes, but not what they send.
    CutOneWay,
    /// Packets to a zone are late and get lost. Where the kernel can.
    DisturbZone,
    /// Reads, writes and flushes of a node's drives fail.
    DriveErrors,
    /// Blocks of a node's drives cannot be read.
    DriveUnreadable,
    /// Bits of a zone's drives flip.
    DriveRot,
    /// Flushes of a zone's drives lie, then its power is cut.
    DriveLies,
    /// Writes to a node's drives get lost, go elsewhere, or are read with a flipped bit.
    DriveMisdirects,
    /// A zone's drives are slow.
    DriveSlow,
    /// A node's drives hang.
    DriveHangs,
    /// A node's drives are full.
    DriveFull,
    /// A node's drives are dead.
    DriveDead,
    /// A node's drives come back blank, and are formatted anew.
    DriveBlank,
    /// A node's drives come back as they were some time ago.
    DriveOld,
    /// A node's state directory comes back empty.
    StateBlank,
    /// A node's state directory comes back as it was some time ago.
    StateOld,
    /// The drives of all zones come back blank: beyond the promise, never drawn unless it is named. The soak must see it.
    BeyondBlank,
}

/// Which faults are drawn.
#[derive(Clone, Debug)]
pub struct Choice {
    /// These only, where any are named.
    pub only: Vec<Fault>,
    /// State directories get lost or old too.
    pub state_damage: bool,
    /// The zone whose media are damaged.
    pub damage_zone: u8,
    /// Pauses are no longer than this.
    pub hold_max: Duration,
}

/// How often each is drawn, against the others.
const WEIGHTS: [(Fault, u64); 28] = [
    (Fault::KillNode, 8),
    (Fault::KillLeader, 6),
    (Fault::KillZone, 4),
    (Fault::RestartNode, 3),
    (Fault::RestartZone, 2),
    (Fault::PauseNode, 4),
    (Fault::PauseLeader, 3),
    (Fault::PowerNode, 8),
    (Fault::PowerZone, 4),
    (Fault::PowerAll, 3),
    (Fault::IsolateZone, 4),
    (Fault::PartitionZone, 4),
    (Fault::CutOneWay, 4),
    (Fault::DisturbZone, 3),
    (Fault::DriveErrors, 4),
    (Fault::DriveUnreadable, 3),
    (Fault::DriveRot, 4),
    (Fault::DriveLies, 3),
    (Fault::DriveMisdirects, 4),
    (Fault::DriveSlow, 3),
    (Fault::DriveHangs, 3),
    (Fault::DriveFull, 2),
    (Fault::DriveDead, 2),
    (Fault::DriveBlank, 2),
    (Fault::DriveOld, 2),
    (Fault::StateBlank, 2),
    (Fault::StateOld, 2),
    (Fault::BeyondBlank, 1),
];

impl Fault {
    fn needs_cuts(self) -> bool {
        matches!(self, Self::IsolateZone | Self::PartitionZone | Self::CutOneWay | Self::DisturbZone)
    }

    /// Whether this network can do it, if it is one of the network.
    pub fn can_be_done(self, network: &Network) -> bool {
        match self {
            Self::DisturbZone => network.can_disturb(),
            _ => !self.needs_cuts() || network.can_cut(),
        }
    }

    fn is_of_state(self) -> bool {
        matches!(self, Self::StateBlank | Self::StateOld)
    }

    /// As the report names it.
    pub fn name(self) -> String {
        serde_json::to_string(&self).expect("a plain name").trim_matches('"').to_owned()
    }
}

/// What one kind of fault came to.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// How long the cluster took to be whole again, each time.
    pub recoveries: Vec<Duration>,
    /// What was missing where it was not whole in time.
    pub late: Vec<String>,
}

/// Does faults.
pub struct Chaos<'a> {
    /// The cluster.
    pub nodes: &'a mut Nodes,
    load: Rc<Load>,
    choice: Choice,
    draws: Draws,
    /// What was done.
    pub accounts: BTreeMap<Fault, Account>,
    /// Nodes that ended without being told to.
    pub ended: Vec<String>,
    begun: Instant,
}

/// The name of the snapshots that media come back as.
const SNAPSHOT: &str = "earlier";
/// How much longer a fault of drives holds where no operation has met it.
const FEEL_MAX: Duration = Duration::from_secs(20);
/// How long a fault holds.
const HOLD: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(15);
/// How long a node may take to stop in order.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

impl<'a> Chaos<'a> {
    /// Nothing done yet.
    pub fn new(nodes: &'a mut Nodes, load: Rc<Load>, choice: Choice, draws: Draws) -> Self {
        let chaos = Self {
            nodes,
            load,
            choice,
            draws,
            accounts: BTreeMap::new(),
            ended: Vec::new(),
            begun: Instant::now(),
        };
        chaos.remember_media();
        chaos
    }

    fn remember_media(&self) {
        for id in self.nodes.of_zone(self.choice.damage_zone) {
            for volume in self.nodes.drives_of(id).into_iter().chain([self.nodes.state_of(id)]) {
                self.nodes.volume(&volume).lock().snapshot(SNAPSHOT);
            }
        }
    }

    /// Faults that can be drawn here.
    pub fn possible(&self) -> Vec<(Fault, u64)> {
        let network = &self.nodes.network;
        let is_possible = |fault: Fault| {
            let is_named = self.choice.only.contains(&fault);
            let is_chosen = is_named || self.choice.only.is_empty();
            let is_allowed = match fault {
                Fault::BeyondBlank => is_named,
                _ => is_named || !fault.is_of_state() || self.choice.state_damage,
            };
            is_chosen && is_allowed && fault.can_be_done(network)
        };
        WEIGHTS.into_iter().filter(|(fault, _)| is_possible(*fault)).collect()
    }

    /// The next one.
    pub fn draw(&mut self) -> Option<Fault> {
        let possible = self.possible();
        let sum: u64 = possible.iter().map(|(_, weight)| weight).sum();
        if sum == 0 {
            return None;
        }
        let mut left = self.draws.below(sum);
        for (fault, weight) in possible {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return Some(fault),
            }
        }
        None
    }

    fn any_node(&mut self) -> u64 {
        let ids = self.nodes.ids();
        *self.draws.pick(&ids)
    }

    fn any_zone(&mut self) -> u8 {
        u8::try_from(self.draws.below(u64::from(self.nodes.shape().zones)) + 1).expect("zones are u8")
    }

    fn damaged_node(&mut self) -> u64 {
        let ids = self.nodes.of_zone(self.choice.damage_zone);
        *self.draws.pick(&ids)
    }

    async fn any_leader(&mut self) -> u64 {
        let leaders = self.nodes.leaders().await;
        if leaders.is_empty() { self.any_node() } else { self.draws.pick(&leaders).1 }
    }

    async fn hold(&mut self) {
        let hold = self.draws.duration(HOLD).min(self.choice.hold_max);
        tokio::time::sleep(hold).await;
    }

    /// Tried is not felt: a drive that is written to seldom may meet none of what goes wrong in a hundred writes.
    async fn hold_until_felt(&self, fault: Fault, before: &Counts) {
        let is_felt = |now: &Counts| match fault {
            // The first of either may take the drive out, before it feels the other.
            Fault::DriveErrors => {
                now.write_errors + now.flush_errors > before.write_errors + before.flush_errors
            }
            Fault::DriveMisdirects => {
                now.lost_writes > before.lost_writes && now.misdirected_writes > before.misdirected_writes
            }
            Fault::DriveFull => now.full_writes > before.full_writes,
            Fault::DriveLies => now.flush_lies > before.flush_lies,
            // Hanging and slow drives, and dead ones, are felt by whatever is asked of them.
            _ => true,
        };
        let begun = Instant::now();
        while !is_felt(&self.nodes.volumes.counts()) && begun.elapsed() < FEEL_MAX {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn say(&self, fault: Fault, what: &str) {
        eprintln!("{:7.1} s  {:18} {what}", self.begun.elapsed().as_secs_f64(), fault.name());
    }

    /// Does it, takes it back, and waits until the cluster is whole.
    ///
    /// # Errors
    /// The harness failed: the program could not be started, the network not be changed.
    pub async fn happen(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::KillNode | Fault::KillLeader | Fault::KillZone => {
                let ids = self.victims(fault).await;
                self.say(fault, &format!("nodes {ids:?}"));
                self.nodes.kill(&ids);
                self.hold().await;
                self.start(&ids)?;
            }
            Fault::PowerNode | Fault::PowerZone | Fault::PowerAll => {
                let ids = self.victims(fault).await;
                self.say(fault, &format!("nodes {ids:?}"));
                self.nodes.cut_power(&ids);
                self.hold().await;
                self.start(&ids)?;
            }
            Fault::RestartNode | Fault::RestartZone => {
                let ids = self.victims(fault).await;
                self.say(fault, &format!("nodes {ids:?}"));
                self.nodes.stop(&ids, STOP_PATIENCE).await;
                self.start(&ids)?;
            }
            Fault::PauseNode | Fault::PauseLeader => {
                let ids = self.victims(fault).await;
                let pause =
                    self.draws.duration(Duration::from_millis(200)..PAUSE_MAX).min(self.choice.hold_max);
                self.say(fault, &format!("nodes {ids:?} for {:.1} s", pause.as_secs_f64()));
                self.nodes.pause(&ids);
                tokio::time::sleep(pause).await;
                self.nodes.go_on(&ids);
            }
            Fault::IsolateZone | Fault::PartitionZone | Fault::CutOneWay => {
                let zone = self.any_zone();
                let cut = match fault {
                    Fault::IsolateZone => Cut::Isolated,
                    Fault::PartitionZone => Cut::FromPeers,
                    _ if self.draws.chance(500_000) => Cut::Outward,
                    _ => Cut::Inward,
                };
                self.say(fault, &format!("zone {zone} {cut:?}"));
                self.nodes.network.cut(zone, cut)?;
                self.hold().await;
                self.nodes.network.mend(zone, cut)?;
            }
            Fault::DisturbZone => {
                let zone = self.any_zone();
                let rule = format!(
                    "delay {}ms {}ms loss {}%",
                    1 + self.draws.below(50),
                    1 + self.draws.below(20),
                    self.draws.below(6)
                );
                self.say(fault, &format!("zone {zone}: {rule}"));
                self.nodes.network.disturb(zone, Some(&rule))?;
                self.hold().await;
                self.nodes.network.disturb(zone, None)?;
            }
            Fault::DriveErrors
            | Fault::DriveMisdirects
            | Fault::DriveHangs
            | Fault::DriveFull
            | Fault::DriveDead
            | Fault::DriveSlow
            | Fault::DriveLies => self.bad_weather(fault).await?,
            Fault::DriveRot | Fault::DriveUnreadable => self.decay(fault).await?,
            Fault::DriveBlank | Fault::DriveOld | Fault::StateBlank | Fault::StateOld => {
                let id = self.damaged_node();
                self.come_back_otherwise(fault, id).await?;
            }
            Fault::BeyondBlank => {
                for id in self.nodes.ids() {
                    self.come_back_otherwise(fault, id).await?;
                }
            }
        }
        self.recover(fault).await;
        if self.draws.chance(300_000) {
            self.remember_media();
        }
        Ok(())
    }

    async fn victims(&mut self, fault: Fault) -> Vec<u64> {
        match fault {
            Fault::KillLeader | Fault::PauseLeader => vec![self.any_leader().await],
            Fault::KillZone | Fault::PowerZone | Fault::RestartZone => {
                let zone = self.any_zone();
                self.nodes.of_zone(zone)
            }
            Fault::PowerAll => self.nodes.ids(),
            _ => vec![self.any_node()],
        }
    }

    fn start(&mut self, ids: &[u64]) -> anyhow::Result<()> {
        ids.iter().try_for_each(|id| self.nodes.start(*id))
    }

    async fn bad_weather(&mut self, fault: Fault) -> anyhow::Result<()> {
        let zone = self.nodes.of_zone(self.choice.damage_zone);
        let ids = match fault {
            // One drive of a zone may be written to hardly at all for a while: open slabs are on the others.
            Fault::DriveLies | Fault::DriveSlow | Fault::DriveMisdirects => zone,
            _ => vec![self.damaged_node()],
        };
        let mut rate = |most: u64| u32::try_from(self.draws.below(most)).expect("below a million");
        let weather = match fault {
            Fault::DriveErrors => Weather {
                read_error_per_million: rate(50_000),
                // A drive that failed once takes no new fragments, so the first error must not be long in coming.
                write_error_per_million: 20_000 + rate(180_000),
                flush_error_per_million: 50_000 + rate(150_000),
                ..Weather::default()
            },
            Fault::DriveMisdirects => Weather {
                // A drive that finds its headers gone takes itself out, so both must come soon.
                lost_write_per_million: 100_000 + rate(200_000),
                misdirected_write_per_million: 100_000 + rate(200_000),
                read_flip_per_million: rate(20_000),
                ..Weather::default()
            },
            Fault::DriveSlow => Weather {
                slow_per_million: 20_000 + rate(200_000),
                slow_ms_max: 10 + rate(500),
                ..Weather::default()
            },
            Fault::DriveLies => Weather { flush_lies: true, ..Weather::default() },
            Fault::DriveHangs => Weather { hangs: true, ..Weather::default() },
            Fault::DriveFull => Weather { full: true, ..Weather::default() },
            _ => Weather { dead: true, ..Weather::default() },
        };
        self.say(fault, &format!("nodes {ids:?}"));
        let volumes: Vec<String> = ids.iter().flat_map(|id| self.nodes.drives_of(*id)).collect();
        let before = self.nodes.volumes.counts();
        for volume in &volumes {
            self.nodes.weather(volume, weather.clone());
        }
        self.hold().await;
        self.hold_until_felt(fault, &before).await;
        if fault == Fault::DriveLies {
            // Under the lie, or it would not be felt.
            self.nodes.cut_power(&ids);
        }
        for volume in &volumes {
            self.nodes.weather(volume, Weather::default());
        }
        match fault {
            Fault::DriveSlow => {}
            // A drive that failed takes no new fragments before its node is started again.
            _ => self.nodes.kill(&ids),
        }
        self.start(&ids)
    }

    async fn decay(&mut self, fault: Fault) -> anyhow::Result<()> {
        let ids = match fault {
            Fault::DriveRot => self.nodes.of_zone(self.choice.damage_zone),
            _ => vec![self.damaged_node()],
        };
        let count = 1 + self.draws.below(200);
        self.say(fault, &format!("nodes {ids:?}: {count} places on each drive"));
        let volumes: Vec<String> = ids.iter().flat_map(|id| self.nodes.drives_of(*id)).collect();
        for volume in &volumes {
            let order = match fault {
                Fault::DriveRot => Order::Rot { bits: count },
                _ => Order::Unreadable { blocks: count },
            };
            self.nodes.order(volume, &order)?;
        }
        self.hold().await;
        let restart = self.draws.chance(500_000);
        if restart {
            // Damage is met at an opening too.
            self.nodes.kill(&ids);
            self.start(&ids)?;
            self.hold().await;
        }
        for volume in &volumes {
            self.nodes.order(volume, &Order::Readable)?;
        }
        if fault == Fault::DriveUnreadable {
            self.nodes.kill(&ids);
        }
        self.start(&ids)
    }

    async fn come_back_otherwise(&mut self, fault: Fault, id: u64) -> anyhow::Result<()> {
        self.say(fault, &format!("node {id}"));
        self.nodes.cut_power(&[id]);
        let volumes = match fault {
            Fault::StateBlank | Fault::StateOld => vec![self.nodes.state_of(id)],
            _ => self.nodes.drives_of(id),
        };
        for volume in &volumes {
            let order = match fault {
                Fault::DriveBlank | Fault::BeyondBlank => Order::Blank,
                Fault::StateBlank => Order::Erase,
                _ => Order::RollBack { name: SNAPSHOT.to_owned() },
            };
            self.nodes.order(volume, &order)?;
        }
        if matches!(fault, Fault::DriveBlank | Fault::BeyondBlank) {
            if fault == Fault::DriveBlank && self.draws.chance(500_000) {
                // First with a drive that is none.
                self.start(&[id])?;
                self.hold().await;
                self.nodes.kill(&[id]);
            }
            for volume in &volumes {
                self.nodes.format(volume)?;
            }
        }
        self.start(&[id])
    }

    async fn recover(&mut self, fault: Fault) {
        let ended = &mut self.ended;
        let second = self.begun.elapsed().as_secs();
        let result = self.nodes.wait_whole(RECOVERY_PATIENCE, |id, how| {
            eprintln!("           node {id} ended by itself: {how}");
            ended.push(format!("second {second}, after {}: node {id}: {how}", fault.name()));
        });
        let account = match result.await {
            Ok(recovery) => {
                let account = self.accounts.entry(fault).or_default();
                account.recoveries.push(recovery);
                return;
            }
            Err(missing) => {
                self.say(fault, &format!("NOT WHOLE after {} s: {missing}", RECOVERY_PATIENCE.as_secs()));
                (self.accounts.entry(fault).or_default(), missing)
            }
        };
        let (account, missing) = account;
        account.late.push(format!("second {second}: {missing}; last error: {}", self.load.last_error()));
    }
}
