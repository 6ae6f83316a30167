//! What works in a node's background, each with its standing job.

use super::NodeParts;
use super::base::Base;
use crate::admission::{self, AdmissionParts};
use crate::caretaker::{Caretaker, CaretakerJobs, CaretakerParts};
use crate::config::Budget;
use crate::drain::{DrainParts, Drains};
use crate::ingest::{Ingest, IngestParts};
use crate::jobs::{Job, JobSpec, Jobs, Kind, Subject, Unit};
use crate::parity::{ParityParts, ParitySampler};
use crate::reconcile::{Reconciler, ReconcilerParts};
use crate::runs::{RunParts, Runs};
use crate::scrub::{Scrubber, ScrubberParts};
use crate::survey::{SurveyParts, Surveyor};
use crate::sweeper::{Sweeper, SweeperParts};
use std::sync::Arc;
use strongroom_core::writer::WriterConfig;

/// See the module.
pub(super) struct Workers {
    pub(super) ingest: Ingest,
    pub(super) surveyor: Arc<Surveyor>,
    pub(super) caretaker: Arc<Caretaker>,
    pub(super) sweeper: Arc<Sweeper>,
    pub(super) scrubber: Arc<Scrubber>,
    pub(super) drains: Drains,
    pub(super) runs: Runs,
}

impl Workers {
    /// Starts all of them.
    pub(super) fn start(base: &Base, parts: &NodeParts) -> Self {
        let (env, jobs) = (&base.env, &base.jobs);
        let ingest = ingest(base, parts);
        let surveyor = Arc::new(Surveyor::new(SurveyParts {
            env: env.clone(),
            slabs: base.slabs.clone(),
            monitor: base.monitor.clone(),
            groups: parts.groups,
            found: base.found.clone(),
        }));
        let caretaker = caretaker(base, parts, &ingest);
        admission::start(&AdmissionParts {
            env: env.clone(),
            meta: base.meta.clone(),
            holder: base.holder.clone(),
            alarms: base.alarms.clone(),
        });
        let sweeper = Sweeper::start(SweeperParts {
            env: env.clone(),
            holder: base.holder.clone(),
            slabs: base.slabs.clone(),
            policy: parts.policy,
            events: base.events.clone(),
            job: standing(jobs, Kind::Sweep, Unit::Fragments),
            mutants: parts.mutants,
        });
        Reconciler::start(ReconcilerParts {
            env: env.clone(),
            node: parts.node,
            holder: base.holder.clone(),
            slabs: base.slabs.clone(),
            groups: parts.groups,
            found: base.found.clone(),
            every: parts.policy.reconcile_every,
            events: base.events.clone(),
            job: standing(jobs, Kind::Reconcile, Unit::Slabs),
        });
        ParitySampler::start(ParityParts {
            env: env.clone(),
            meta: base.meta.clone(),
            slabs: base.slabs.clone(),
            peers: base.peers.clone(),
            codecs: base.codecs.clone(),
            groups: parts.groups,
            found: base.found.clone(),
            background: parts.background,
            alarms: base.alarms.clone(),
            job: standing(jobs, Kind::Parity, Unit::Slabs),
        });
        let scrubber = Scrubber::start(ScrubberParts {
            env: env.clone(),
            holder: base.holder.clone(),
            period: parts.background.scrub_period,
            jobs: jobs.clone(),
            events: base.events.clone(),
        });
        let drains = Drains::new(DrainParts {
            env: env.clone(),
            meta: base.meta.clone(),
            monitor: base.monitor.clone(),
            slabs: base.slabs.clone(),
            groups: parts.groups,
        });
        let runs = Runs::new(RunParts {
            env: env.clone(),
            node: parts.node,
            jobs: jobs.clone(),
            surveyor: surveyor.clone(),
            caretaker: caretaker.clone(),
            holder: base.holder.clone(),
            scrubber: scrubber.clone(),
            sweeper: sweeper.clone(),
            ingest: ingest.clone(),
        });
        Self { ingest, surveyor, caretaker, sweeper, scrubber, drains, runs }
    }
}

fn ingest(base: &Base, parts: &NodeParts) -> Ingest {
    Ingest::start(IngestParts {
        env: base.env.clone(),
        node: parts.node,
        session: base.session.clone(),
        peers: base.peers.clone(),
        monitor: base.monitor.clone(),
        meta: base.meta.clone(),
        groups: parts.groups,
        config: WriterConfig {
            slab_len_bytes_max: parts.policy.len_bytes_max,
            slab_age_max: parts.policy.age_max,
            mutants: parts.mutants,
            ..WriterConfig::default()
        },
    })
}

fn caretaker(base: &Base, parts: &NodeParts, ingest: &Ingest) -> Arc<Caretaker> {
    Caretaker::start(CaretakerParts {
        env: base.env.clone(),
        meta: base.meta.clone(),
        peers: base.peers.clone(),
        monitor: base.monitor.clone(),
        fetcher: base.fetcher.in_background(),
        ingest: ingest.clone(),
        alarms: base.alarms.clone(),
        events: base.events.clone(),
        jobs: CaretakerJobs {
            seal: standing(&base.jobs, Kind::Seal, Unit::Slabs),
            convert: standing(&base.jobs, Kind::Convert, Unit::Bytes),
            repair: limited(standing(&base.jobs, Kind::Repair, Unit::Fragments), parts.background.repair),
            moves: limited(standing(&base.jobs, Kind::Drain, Unit::Fragments), parts.background.repair),
            compact: standing(&base.jobs, Kind::Compact, Unit::Bytes),
        },
        groups: parts.groups,
        policy: parts.policy,
        mutants: parts.mutants,
        found: base.found.clone(),
    })
}

fn limited(job: Arc<Job>, budget: Budget) -> Arc<Job> {
    job.limit(budget);
    job
}

/// A worker's own job.
fn standing(jobs: &Jobs, kind: Kind, unit: Unit) -> Arc<Job> {
    jobs.stand(JobSpec { kind, subject: Subject::ThisNode, unit })
}
