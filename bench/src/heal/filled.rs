//! A cluster of real processes, filled with generated mail that is erasure-coded: what rebuilds and reads are measured on.

use crate::s3::client::{Body, Target};
use crate::s3::load::{self, Operation, Phase, PhaseDone, PhaseEnd};
use crate::s3::{self, ClientKind, PayloadSignature, Server};
use anyhow::{Context, ensure};
use std::path::Path;
use std::sync::Arc;
use strongroom::demo::watch;
use strongroom::dev::Cluster;
use strongroom::dev::layout::Shape;
use strongroom_env::real::OsRng;
use strongroom_types::units::MIB;

/// Slabs as production has them, made cold when the measurement says so.
const SLAB_SECTION: &str =
    "len_bytes_max = 67108864\nage_ms_max = 600000\nconvert_after_ms = 600000\nfree_after_ms = 500";
/// Zones, and nodes in each.
const ZONES: u8 = 3;
const NODES_PER_ZONE: u8 = 2;
/// Bytes of a drive for four of mail: three copies and the cold form of twice the length beside each other for a while, over six drives, and a third kept free.
const DRIVE_BYTES_PER_FOUR: u64 = 5;
/// Drives are not shorter than this.
const DRIVE_LEN_BYTES_MIN: u64 = 512 * MIB;
const EXTENT_LEN_BYTES: u32 = strongroom_types::limits::EXTENT_LEN_BYTES_DEFAULT;
/// Distinct mails; some 110 MB.
const BODIES: usize = 2000;
const BUCKET: &str = "heal";
/// Requests in flight while it is filled.
const FILLERS: usize = 16;

/// Starts a cluster in `folder` for `mib` MiB of mail; `more` are lines of its nodes' configuration.
pub async fn start(program: &Path, folder: &Path, mib: u64, more: &str) -> anyhow::Result<Cluster> {
    let shape = Shape {
        zones: ZONES,
        nodes_per_zone: NODES_PER_ZONE,
        drive_len_bytes: (mib * MIB * DRIVE_BYTES_PER_FOUR / 4)
            .next_multiple_of(64 * MIB)
            .max(DRIVE_LEN_BYTES_MIN),
        extent_len_bytes: EXTENT_LEN_BYTES,
        groups: 4,
        base_port: 0,
        slab_section: format!("{SLAB_SECTION}\n{more}"),
    };
    Ok(Cluster::start(program.to_owned(), folder, &shape, &OsRng, |_| {}).await?)
}

/// The processes of all nodes.
pub fn pids(cluster: &Cluster) -> Vec<u32> {
    cluster.processes.plan().nodes.iter().filter_map(|node| cluster.processes.pid(node.id)).collect()
}

/// What was stored, and who reads it.
pub struct Stored {
    target: Arc<Target>,
    bodies: Arc<[Body]>,
    objects: Arc<[u64]>,
}

impl Stored {
    /// Fills the cluster with `mib` MiB of mail, and has it made cold.
    pub async fn fill(cluster: &Cluster, mib: u64) -> anyhow::Result<Self> {
        let plan = cluster.processes.plan();
        let server = Server {
            endpoint: plan.nodes.iter().map(|node| format!("http://{}", node.s3)).collect(),
            access_key: plan.access_key.clone(),
            secret_key: plan.secret_key.clone(),
            region: String::from("us-east-1"),
            bucket: BUCKET.into(),
            client: ClientKind::Lean,
            payload: PayloadSignature::Sha256,
        };
        let target = Arc::new(Target::new(&server)?);
        let bodies: Arc<[Body]> = s3::generated(1, BODIES, |_| true)?.into();
        s3::client::ensure_bucket(&target).await.context("making the bucket")?;
        let mut stored = Self { target, bodies, objects: Arc::new([]) };
        let mean = stored.bodies.iter().map(|body| body.bytes.len() as u64).sum::<u64>() / BODIES as u64;
        let end = PhaseEnd { count: (mib * MIB).div_ceil(mean), after: None };
        let done = stored.phase(Operation::Put, FILLERS, end).await?;
        stored.objects = done.stored.into();
        watch::make_cold(cluster, done.len_bytes).await?;
        Ok(stored)
    }

    /// Makes requests from a thread of their own; one that fails is an error.
    pub async fn phase(
        &self,
        operation: Operation,
        concurrency: usize,
        end: PhaseEnd,
    ) -> anyhow::Result<PhaseDone> {
        let phase = Phase {
            operation,
            concurrency,
            threads: 1,
            end,
            prefix: String::from("mail"),
            target: self.target.clone(),
            bodies: self.bodies.clone(),
            stored: self.objects.clone(),
        };
        let done = tokio::task::spawn_blocking(|| load::run(phase)).await??;
        ensure!(
            done.failed_count == 0,
            "{} requests failed: {}",
            done.failed_count,
            done.failures.join("; ")
        );
        Ok(done)
    }
}
