//! Runs one phase: so many requests in flight until so many are done or the time is up.
//!
//! Each thread has a runtime of its own and its share of the workers; a worker has a connection of its own and takes the next
//! object's number from a counter that all share. Latency is counted from before the request until the last byte of its answer,
//! pauses after `503` included: that is what a mail server would have waited.

use super::client::{Body, Client, RequestError, Target};
use crate::limits;
use hdrhistogram::Histogram;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// Write.
    Put,
    /// Read and compare.
    Get,
    /// Delete.
    Delete,
}

/// When a phase ends: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct PhaseEnd {
    /// After so many requests.
    pub count: u64,
    /// After so long.
    pub after: Option<Duration>,
}

/// One phase to run.
#[derive(Clone)]
pub struct Phase {
    /// What is measured.
    pub operation: Operation,
    /// Requests in flight.
    pub concurrency: usize,
    /// Threads, not more than `concurrency`.
    pub threads: usize,
    /// When it ends.
    pub end: PhaseEnd,
    /// Keys are `prefix/number`.
    pub prefix: String,
    /// The server.
    pub target: Arc<Target>,
    /// What is written: object `n` is body `n` modulo their count.
    pub bodies: Arc<[Body]>,
    /// The objects there are, for reading and deleting.
    pub stored: Arc<[u64]>,
}

/// What a phase did.
pub struct PhaseDone {
    /// Numbers of the objects whose PUT was acknowledged, sorted.
    pub stored: Vec<u64>,
    /// Bytes of the bodies of all requests that succeeded.
    pub len_bytes: u64,
    /// From the first request to the last answer.
    pub duration: Duration,
    /// Latencies of the requests that succeeded, in microseconds.
    pub latency_us: Histogram<u64>,
    /// `503` answers.
    pub busy_count: u64,
    /// Requests that failed for good.
    pub failed_count: u64,
    /// Some of them in words.
    pub failures: Vec<String>,
}

impl PhaseDone {
    fn empty() -> Self {
        let latency_us =
            Histogram::new_with_bounds(1, limits::LATENCY_US_MAX, 3).expect("constant bounds are in order");
        Self {
            stored: Vec::new(),
            len_bytes: 0,
            duration: Duration::ZERO,
            latency_us,
            busy_count: 0,
            failed_count: 0,
            failures: Vec::new(),
        }
    }

    fn add(&mut self, other: Self) {
        self.stored.extend(other.stored);
        self.len_bytes += other.len_bytes;
        self.duration = self.duration.max(other.duration);
        self.latency_us.add(&other.latency_us).expect("both have the same bounds");
        self.busy_count += other.busy_count;
        self.failed_count += other.failed_count;
        self.failures.extend(other.failures);
        self.failures.truncate(limits::FAILURES_SHOWN_MAX);
    }
}

/// State that the workers of all threads share.
struct Shared {
    phase: Phase,
    next: AtomicU64,
    failed_count: AtomicU64,
}

/// Runs `phase` to its end.
///
/// # Errors
/// When a thread or its runtime cannot be made.
pub fn run(mut phase: Phase) -> std::io::Result<PhaseDone> {
    assert!(phase.threads >= 1 && phase.threads <= phase.concurrency);
    // Read in another order than written, or the server's read-ahead would be measured.
    let mut order = phase.stored.to_vec();
    order.shuffle(&mut SmallRng::seed_from_u64(phase.concurrency as u64));
    phase.stored = order.into();
    let threads = phase.threads;
    let shared = Arc::new(Shared { phase, next: AtomicU64::new(0), failed_count: AtomicU64::new(0) });
    // Runtimes are made before anyone starts, and all start at once.
    let barrier = Arc::new(Barrier::new(threads));
    let mut runtimes = Vec::new();
    for _ in 0..threads {
        runtimes.push(tokio::runtime::Builder::new_current_thread().enable_all().build()?);
    }
    let mut done = PhaseDone::empty();
    std::thread::scope(|scope| {
        let running: Vec<_> = runtimes
            .into_iter()
            .enumerate()
            .map(|(thread, runtime)| {
                let (shared, barrier) = (shared.clone(), barrier.clone());
                scope.spawn(move || {
                    barrier.wait();
                    one_thread(&runtime, &shared, thread)
                })
            })
            .collect();
        for thread in running {
            done.add(thread.join().expect("a thread of the load panics only where an invariant is broken"));
        }
    });
    done.stored.sort_unstable();
    Ok(done)
}

fn one_thread(runtime: &tokio::runtime::Runtime, shared: &Arc<Shared>, thread: usize) -> PhaseDone {
    let (concurrency, threads) = (shared.phase.concurrency, shared.phase.threads);
    let start = Instant::now();
    let local = tokio::task::LocalSet::new();
    let mut done = local.block_on(runtime, async {
        let shared = Rc::new(shared.clone());
        let workers: Vec<_> = (thread..concurrency)
            .step_by(threads)
            .map(|index| {
                let shared = shared.clone();
                tokio::task::spawn_local(async move { worker(&shared, index, start).await })
            })
            .collect();
        let mut done = PhaseDone::empty();
        for worker in workers {
            done.add(worker.await.expect("a worker panics only where an invariant is broken"));
        }
        done
    });
    done.duration = start.elapsed();
    done
}

async fn worker(shared: &Shared, index: usize, start: Instant) -> PhaseDone {
    let phase = &shared.phase;
    let mut done = PhaseDone::empty();
    let mut client = match Client::new(&phase.target, index) {
        Ok(client) => client,
        Err(error) => {
            done.failed_count = 1;
            done.failures.push(format!("{:#}", anyhow::Error::from(error)));
            return done;
        }
    };
    loop {
        if phase.end.after.is_some_and(|after| start.elapsed() >= after)
            || shared.failed_count.load(Ordering::Relaxed) >= limits::FAILURES_MAX
        {
            return done;
        }
        let turn = shared.next.fetch_add(1, Ordering::Relaxed);
        if turn >= phase.end.count {
            return done;
        }
        let object = match phase.operation {
            Operation::Put => turn,
            Operation::Get | Operation::Delete => phase.stored[(turn % phase.stored.len() as u64) as usize],
        };
        let body = &phase.bodies[(object % phase.bodies.len() as u64) as usize];
        let key = format!("{}/{object:08}", phase.prefix);
        let begun = Instant::now();
        match patiently(&mut client, phase.operation, &key, body, &mut done.busy_count).await {
            Ok(()) => {
                let latency_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                done.latency_us.saturating_record(latency_us);
                if phase.operation == Operation::Put {
                    done.stored.push(object);
                }
                done.len_bytes += body.bytes.len() as u64;
            }
            Err(error) => {
                shared.failed_count.fetch_add(1, Ordering::Relaxed);
                done.failed_count += 1;
                if done.failures.len() < limits::FAILURES_SHOWN_MAX {
                    let error = anyhow::Error::from(error);
                    done.failures.push(format!("{:?} {key}: {error:#}", phase.operation));
                }
            }
        }
    }
}

/// One request, sent again after each `503` while that is allowed.
async fn patiently(
    client: &mut Client<'_>,
    operation: Operation,
    key: &str,
    body: &Body,
    busy_count: &mut u64,
) -> Result<(), RequestError> {
    let mut pause = limits::BUSY_PAUSE_INITIAL;
    for _ in 0..limits::BUSY_RETRIES_MAX {
        let done = match operation {
            Operation::Put => client.put(key, body).await,
            Operation::Get => client.get(key, &body.bytes).await,
            Operation::Delete => client.delete(key).await,
        };
        if !matches!(done, Err(RequestError::Busy)) {
            return done;
        }
        *busy_count += 1;
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(limits::BUSY_PAUSE_MAX);
    }
    Err(RequestError::Busy)
}
