//! `strongroom demo`: real mail through the real path, with a zone killed on the way, a drive wiped and another corrupted, and every byte compared.

pub mod objects;
pub mod harm;
pub mod watch;
pub mod clients;

use self::clients::{Clients, Progress};
use self::objects::{Mails, Stored};
use crate::dev::Cluster;
use crate::jobs::{Kind, Report as JobReport};
use serde::Serialize;
use std::time::{Duration, Instant};

/// The bucket of the demo.
pub const BUCKET: &str = "mail";

/// What a demo shows while it runs.
pub trait Show {
    /// A step begins, of so many items where that is known.
    fn begin(&mut self, what: &str, items: Option<u64>) -> Box<dyn Progress>;
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Messages stored, all in all.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Each step: what was done, to how many messages, in how long.
    pub steps: Vec<StepReport>,
    /// Bytes on all drives per byte stored, as copies.
    pub hot_bytes_per_byte: f64,
    /// Bytes on all drives per byte stored, erasure-coded.
    pub cold_bytes_per_byte: f64,
    /// Comparisons that found a difference, or could not be made.
    pub differences: Vec<String>,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct StepReport {
    /// What was done.
    pub what: String,
    /// To how many messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// In how long.
    pub seconds: f64,
    /// What was found or made, in numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<Count>,
}

/// Something counted.
#[derive(Debug, Serialize)]
pub struct Count {
    /// What.
    pub what: &'static str,
    /// How many.
    pub count: u64,
}

/// Why a demo could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The mail.
    #[error(transparent)]
    Mail(#[from] crate::mail::MailError),
    /// A node.
    #[error(transparent)]
    Process(#[from] crate::dev::processes::ProcessError),
    /// The S3 client.
    #[error(transparent)]
    Endpoint(#[from] strongroom_tier::EndpointError),
    /// A request that must succeed did not.
    #[error("{what}: {reason}")]
    Request {
        /// Which.
        what: String,
        /// What the server or client said.
        reason: String,
    },
    /// Something did not come about in time.
    #[error("{what} did not come about within {seconds} s; last seen: {seen}")]
    Late {
        /// What.
        what: &'static str,
        /// How long was waited.
        seconds: u64,
        /// What was there instead.
        seen: String,
    },
}

/// The zone that is killed while everything is copies.
const ZONE_KILLED_HOT: u8 = 3;
/// The zone that is killed once everything is erasure-coded.
const ZONE_KILLED_COLD: u8 = 2;
/// The zone of the node whose drives are wiped, and that of the one whose drive is corrupted.
const ZONE_WIPED: u8 = 3;
const ZONE_CORRUPTED: u8 = 1;

/// Blocks that are made something else.
const BLOCKS_HARMED: usize = 1000;
/// They are drawn with this.
const HARM_SEED: u64 = 1;

/// A demo under way.
pub struct Demo<'a, S: Show> {
    cluster: Cluster,
    clients: Clients,
    show: &'a mut S,
    stored: Vec<Stored>,
    /// Blocks that were made something else.
    harmed: u64,
    report: Report,
}

impl<'a, S: Show> Demo<'a, S> {
    /// A demo on a fresh cluster with so many clients.
    ///
    /// # Errors
    /// The bucket could not be made.
    pub async fn begin(cluster: Cluster, clients: usize, show: &'a mut S) -> Result<Self, DemoError> {
        let plan = cluster.processes.plan();
        let clients = Clients::new(&cluster.endpoint(), &plan.access_key, &plan.secret_key, clients)?;
        clients.create_bucket(BUCKET).await?;
        let report = Report {
            messages: 0,
            bytes: 0,
            steps: Vec::new(),
            hot_bytes_per_byte: 0.0,
            cold_bytes_per_byte: 0.0,
            differences: Vec::new(),
        };
        Ok(Self { cluster, clients, show, stored: Vec::new(), harmed: 0, report })
    }

    /// All of it, in order. `first` is stored while all is well, `second` while a zone is gone.
    ///
    /// # Errors
    /// See [`DemoError`]; a difference is not an error but in the report.
    pub async fn run(mut self, first: Mails, second: Mails) -> Result<(Report, Cluster), DemoError> {
        self.store("stored in three zones", first).await?;
        self.report.hot_bytes_per_byte = self.bytes_per_byte().await?;
        self.compare("read back, as copies").await;
        self.kill(ZONE_KILLED_HOT);
        self.compare("read back, as copies, one zone killed").await;
        self.start(ZONE_KILLED_HOT).await?;

        self.make_cold("sealed and erasure-coded").await?;
        self.report.cold_bytes_per_byte = self.bytes_per_byte().await?;
        self.compare("read back, erasure-coded").await;
        self.kill(ZONE_KILLED_COLD);
        self.compare("read back, erasure-coded, one zone killed").await;
        self.store("stored while the zone is gone", second).await?;
        self.compare("read back, old and new, zone still gone").await;

        self.start(ZONE_KILLED_COLD).await?;
        self.compare("read back, zone just returned").await;
        self.make_cold("sealed and erasure-coded again, over all zones").await?;
        self.compare("read back, everything erasure-coded over all zones").await;

        let [wiped, corrupted] =
            [self.cluster.nodes_of(ZONE_WIPED)[0], self.cluster.nodes_of(ZONE_CORRUPTED)[0]];
        self.wipe(wiped).await?;
        self.compare("read back, a node's drives wiped").await;
        self.repair(wiped, "repaired: nothing is below its full margin any more").await?;
        // The scrub comes first: what a reader or the usual tour comes upon is repaired, and would not be there to be found.
        self.corrupt(corrupted).await?;
        self.scrub(corrupted).await?;
        self.repair(corrupted, "repaired: nothing is below its full margin").await?;
        self.compare("read back, everything whole again").await;
        Ok((self.report, self.cluster))
    }

    async fn store(&mut self, what: &str, mails: Mails) -> Result<(), DemoError> {
        let progress = self.show.begin(what, Some(mails.message_count()));
        let begun = Instant::now();
        let stored = self.clients.store(BUCKET, mails, progress.as_ref()).await?;
        progress.end();
        self.step(what, &stored, begun.elapsed());
        self.report.messages += stored.len() as u64;
        self.report.bytes += stored.iter().map(|stored| stored.len_bytes).sum::<u64>();
        self.stored.extend(stored);
        Ok(())
    }

    async fn compare(&mut self, what: &str) {
        let progress = self.show.begin(what, Some(self.stored.len() as u64));
        let begun = Instant::now();
        let differences = self.clients.compare(BUCKET, &self.stored, progress.as_ref()).await;
        progress.end();
        let stored = std::mem::take(&mut self.stored);
        self.step(what, &stored, begun.elapsed());
        self.stored = stored;
        self.report.differences.extend(differences.into_iter().map(|words| format!("{what}: {words}")));
    }

    fn step(&mut self, what: &str, stored: &[Stored], took: Duration) {
        self.report.steps.push(StepReport {
            what: what.into(),
            messages: stored.len() as u64,
            bytes: stored.iter().map(|stored| stored.len_bytes).sum(),
            seconds: took.as_secs_f64(),
            counts: Vec::new(),
        });
    }

    fn counted(&mut self, what: &str, took: Duration, counts: &[(&'static str, u64)]) {
        self.step(what, &[], took);
        if let Some(step) = self.report.steps.last_mut() {
            step.counts = counts.iter().map(|(what, count)| Count { what, count: *count }).collect();
        }
    }

    /// As the stop of an instance does it.
    async fn wipe(&mut self, node: u64) -> Result<(), DemoError> {
        let what = format!("node {node} stopped, its drives wiped, started again");
        let progress = self.show.begin(&what, None);
        let begun = Instant::now();
        harm::wipe(&mut self.cluster, node).await?;
        progress.end();
        self.counted(&what, begun.elapsed(), &[]);
        Ok(())
    }

    async fn corrupt(&mut self, node: u64) -> Result<(), DemoError> {
        let what = format!("blocks of node {node}'s drive made something else");
        let (path, begun) = (self.cluster.processes.drive_path(node), Instant::now());
        let done = tokio::task::spawn_blocking(move || harm::corrupt(&path, HARM_SEED, BLOCKS_HARMED)).await;
        let request = |reason: String| DemoError::Request { what: what.clone(), reason };
        let harmed =
            done.map_err(|error| request(error.to_string()))?.map_err(|error| request(error.to_string()))?;
        let counts =
            [("flipped", harmed.flipped), ("torn", harmed.torn), ("misdirected", harmed.misdirected)];
        self.counted(&what, begun.elapsed(), &counts);
        self.harmed = harmed.blocks();
        Ok(())
    }

    /// Has a node's drives read from end to end; what it does not find of the harm that was done is a difference.
    async fn scrub(&mut self, node: u64) -> Result<(), DemoError> {
        let what = format!("scrubbed: every byte of node {node} read and compared");
        let progress = self.show.begin(&what, None);
        let begun = Instant::now();
        let report = watch::run(&self.cluster, node, Kind::Scrub).await?;
        progress.end();
        let Some(JobReport::Scrub(report)) = report else {
            return Err(DemoError::Request { what, reason: String::from("it gave no report") });
        };
        let counts =
            [("corrupt blocks found", report.blocks_corrupt), ("damaged fragments", report.fragments_bad)];
        self.counted(&what, begun.elapsed(), &counts);
        if report.blocks_corrupt != self.harmed {
            let (found, made) = (report.blocks_corrupt, self.harmed);
            self.report.differences.push(format!("{what}: {found} corrupt blocks found, {made} were made"));
        }
        Ok(())
    }

    /// Has what is lost made again, and waits until nothing is below its full margin.
    async fn repair(&mut self, node: u64, what: &str) -> Result<(), DemoError> {
        let progress = self.show.begin(what, None);
        let begun = Instant::now();
        let report = watch::run(&self.cluster, node, Kind::Repair).await?;
        progress.end();
        let Some(JobReport::Repair(report)) = report else {
            return Err(DemoError::Request { what: what.into(), reason: String::from("it gave no report") });
        };
        let counts = [
            ("slabs looked at", report.slabs),
            ("below full margin before", report.slabs_below_first),
            ("and after", report.slabs_below_last),
            ("fragments made again", report.fragments_made_again),
        ];
        self.counted(what, begun.elapsed(), &counts);
        Ok(())
    }

    fn kill(&mut self, zone: u8) {
        for node in self.cluster.nodes_of(zone) {
            self.cluster.processes.kill(node);
        }
    }

    async fn start(&mut self, zone: u8) -> Result<(), DemoError> {
        let what = format!("zone {zone} started again, caught up");
        let progress = self.show.begin(&what, None);
        let begun = Instant::now();
        let nodes = self.cluster.nodes_of(zone);
        for node in &nodes {
            self.cluster.processes.start(*node)?;
        }
        for node in &nodes {
            self.cluster.processes.wait_ready(*node).await?;
        }
        watch::caught_up(&self.cluster).await?;
        progress.end();
        self.step(&what, &[], begun.elapsed());
        Ok(())
    }

    async fn make_cold(&mut self, what: &str) -> Result<(), DemoError> {
        let progress = self.show.begin(what, None);
        let begun = Instant::now();
        watch::make_cold(&self.cluster, self.report.bytes).await?;
        progress.end();
        let stored = std::mem::take(&mut self.stored);
        self.step(what, &stored, begun.elapsed());
        self.stored = stored;
        Ok(())
    }

    async fn bytes_per_byte(&self) -> Result<f64, DemoError> {
        let used = watch::bytes_used(&self.cluster).await?;
        Ok(used as f64 / self.report.bytes.max(1) as f64)
    }
}
