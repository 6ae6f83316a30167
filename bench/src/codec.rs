//! `codec`: encode, verify and reconstruct at the design's profiles, beside another codec.
//!
//! Rounds alternate between the codecs, so that whatever else the machine does meets all of them, and ratios are taken round by
//! round before their median. Before anything is timed, every codec's result is checked.

use crate::machine::Machine;
use anyhow::{Context, ensure};
use reed_solomon_erasure::galois_8::ReedSolomon;
use serde::Serialize;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use strongroom_erasure::{Codec, Engine, MatrixId};

/// The profiles of the design's section on zones.
const PROFILES: [(usize, usize); 7] = [(7, 5), (9, 6), (5, 4), (3, 3), (4, 2), (6, 8), (1, 2)];
/// Bytes of a shard.
const LENS_BYTES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];

/// Encode, verify and reconstruct, beside reed-solomon-erasure.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Rounds; each runs every codec once.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Milliseconds for each codec in each round.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    milliseconds: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    rounds: u32,
    rows: Vec<Row>,
}

/// One operation at one profile and length. Rates are medians over the rounds, in GB/s (10^9) of the data shards' bytes.
#[derive(Serialize)]
struct Row {
    operation: &'static str,
    data_count: usize,
    parity_count: usize,
    shard_len_bytes: usize,
    peer_gb_per_s: f64,
    engines: Vec<Rate>,
}

#[derive(Serialize)]
struct Rate {
    engine: &'static str,
    gb_per_s: f64,
    /// Median of the rounds' ratios, not ratio of the medians.
    ratio_to_peer: f64,
}

/// One codec's work on one operation: runs it once.
type Work<'a> = Box<dyn FnMut() + 'a>;

/// Runs and prints it.
///
/// # Errors
/// When a codec computes something wrong.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let machine = Machine::here();
    let mut rows = Vec::new();
    for (data_count, parity_count) in PROFILES {
        for len_bytes in LENS_BYTES {
            let stripe = Stripe::new(data_count, parity_count, len_bytes)?;
            for operation in ["encode", "verify", "reconstruct"] {
                rows.push(stripe.measure(operation, arguments)?);
            }
        }
    }
    let report = Report { machine, rounds: arguments.rounds, rows };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).context("a report as JSON")?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// A stripe of data with the codecs to compare, and the parity each one makes of it.
struct Stripe {
    data: Vec<Vec<u8>>,
    len_bytes: usize,
    peer: ReedSolomon,
    peer_shards: Vec<Vec<u8>>,
    codecs: Vec<Codec>,
    own_shards: Vec<Vec<u8>>,
}

impl Stripe {
    fn new(data_count: usize, parity_count: usize, len_bytes: usize) -> anyhow::Result<Self> {
        let mut state = 0x5EED_u64;
        let data: Vec<Vec<u8>> = (0..data_count)
            .map(|_| {
                (0..len_bytes)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (state >> 56) as u8
                    })
                    .collect()
            })
            .collect();
        let peer = ReedSolomon::new(data_count, parity_count)?;
        let mut peer_shards = data.clone();
        peer_shards.resize(data_count + parity_count, vec![0; len_bytes]);
        peer.encode(&mut peer_shards)?;
        // The plain definition is an oracle for tests and takes minutes here.
        let engines = Engine::available().filter(|engine| engine.name() != Engine::naive().name());
        let codecs = engines
            .map(|engine| Codec::with_engine(data_count, parity_count, MatrixId::NormalisedCauchy, engine))
            .collect::<Result<Vec<_>, _>>()?;
        let mut own_shards = data.clone();
        own_shards.resize(data_count + parity_count, vec![0; len_bytes]);
        let first = codecs.first().context("an engine besides the naive one")?;
        let (sources, parity) = own_shards.split_at_mut(data_count);
        first.encode(&slices(sources), &mut slices_mut(parity))?;
        let stripe = Self { data, len_bytes, peer, peer_shards, codecs, own_shards };
        stripe.check()?;
        Ok(stripe)
    }

    /// All engines make one parity, the same matrix gives the peer's, and each finds one wrong bit.
    fn check(&self) -> anyhow::Result<()> {
        let data = slices(&self.data);
        let parity_count = self.peer.parity_shard_count();
        for codec in &self.codecs {
            let mut parity = vec![vec![0; self.len_bytes]; parity_count];
            codec.encode(&data, &mut slices_mut(&mut parity))?;
            ensure!(parity == self.own_shards[data.len()..], "{} encodes differently", codec.engine().name());
            let oracle = Codec::with_engine(data.len(), parity_count, MatrixId::Vandermonde, codec.engine())?;
            oracle.encode(&data, &mut slices_mut(&mut parity))?;
            ensure!(
                parity == self.peer_shards[data.len()..],
                "{} disagrees with the peer",
                codec.engine().name()
            );
            let mut wrong = self.own_shards.clone();
            ensure!(codec.verify(&slices(&wrong))?, "{} rejects good shards", codec.engine().name());
            wrong[0][self.len_bytes - 1] ^= 1;
            ensure!(!codec.verify(&slices(&wrong))?, "{} accepts a wrong bit", codec.engine().name());
        }
        Ok(())
    }

    fn measure(&self, operation: &'static str, arguments: &Arguments) -> anyhow::Result<Row> {
        let mut works: Vec<Work<'_>> = vec![self.peer_work(operation)];
        works.extend(self.codecs.iter().map(|codec| self.own_work(operation, codec)));
        let budget = Duration::from_millis(arguments.milliseconds.into());
        let counts: Vec<u32> = works.iter_mut().map(|work| calibrate(work, budget)).collect();
        let len_bytes = (self.data.len() * self.len_bytes) as f64;
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); works.len()];
        for _ in 0..arguments.rounds {
            for ((work, &count), rates) in works.iter_mut().zip(&counts).zip(&mut rates) {
                rates.push(len_bytes * f64::from(count) / time(work, count).as_secs_f64() / 1e9);
            }
        }
        let (peer, own) = rates.split_first().context("the peer comes first")?;
        let engines = self.codecs.iter().zip(own).map(|(codec, rates)| Rate {
            engine: codec.engine().name(),
            gb_per_s: median(rates.clone()),
            ratio_to_peer: median(rates.iter().zip(peer).map(|(own, peer)| own / peer).collect()),
        });
        Ok(Row {
            operation,
            data_count: self.data.len(),
            parity_count: self.peer.parity_shard_count(),
            shard_len_bytes: self.len_bytes,
            peer_gb_per_s: median(peer.clone()),
            engines: engines.collect(),
        })
    }

    /// Data shards that are lost in `reconstruct`: as many as can be.
    fn lost_count(&self) -> usize {
        self.data.len().min(self.peer.parity_shard_count())
    }

    fn peer_work<'a>(&'a self, operation: &str) -> Work<'a> {
        let mut parity = vec![vec![0; self.len_bytes]; self.peer.parity_shard_count()];
        match operation {
            "encode" => Box::new(move || self.peer.encode_sep(&self.data, &mut parity).expect("shapes fit")),
            // With its buffer kept, else it would be measured allocating.
            "verify" => Box::new(move || {
                assert!(self.peer.verify_with_buffer(&self.peer_shards, &mut parity).expect("shapes fit"));
            }),
            _ => {
                let mut shards: Vec<(Vec<u8>, bool)> =
                    self.peer_shards.iter().map(|shard| (shard.clone(), true)).collect();
                Box::new(move || {
                    shards[..self.lost_count()].iter_mut().for_each(|shard| shard.1 = false);
                    self.peer.reconstruct_data(&mut shards).expect("enough shards are left");
                })
            }
        }
    }

    fn own_work<'a>(&'a self, operation: &str, codec: &'a Codec) -> Work<'a> {
        let data = slices(&self.data);
        let mut outputs = vec![vec![0; self.len_bytes]; self.peer.parity_shard_count()];
        match operation {
            "encode" => {
                Box::new(move || codec.encode(&data, &mut slices_mut(&mut outputs)).expect("shapes fit"))
            }
            "verify" => {
                let shards = slices(&self.own_shards);
                Box::new(move || assert!(codec.verify(&shards).expect("shapes fit")))
            }
            _ => {
                let lost_count = self.lost_count();
                let present: Vec<(usize, &[u8])> =
                    slices(&self.own_shards).into_iter().enumerate().skip(lost_count).collect();
                Box::new(move || {
                    let mut wanted: Vec<(usize, &mut [u8])> =
                        slices_mut(&mut outputs).into_iter().take(lost_count).enumerate().collect();
                    codec.reconstruct_some(&present, &mut wanted).expect("enough shards are left");
                })
            }
        }
    }
}

fn slices(shards: &[Vec<u8>]) -> Vec<&[u8]> {
    shards.iter().map(Vec::as_slice).collect()
}

fn slices_mut(shards: &mut [Vec<u8>]) -> Vec<&mut [u8]> {
    shards.iter_mut().map(Vec::as_mut_slice).collect()
}

fn time(work: &mut Work<'_>, count: u32) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        work();
    }
    start.elapsed()
}

/// How often `work` fits into `budget`, at least once.
fn calibrate(work: &mut Work<'_>, budget: Duration) -> u32 {
    let mut count = 1;
    loop {
        let taken = time(work, count);
        if taken >= budget / 4 || count >= 1 << 20 {
            let once = taken.as_secs_f64() / f64::from(count);
            return ((budget.as_secs_f64() / once) as u32).clamp(1, 1 << 24);
        }
        count *= 2;
    }
}

/// The middle value; the upper one of two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(report: &Report) {
    println!("{}", report.machine);
    println!(
        "GB/s of data, medians of {} rounds; reed-solomon-erasure 6 without its C code is the peer",
        report.rounds
    );
    println!(
        "{:<12} {:>8} {:>9} {:>8}  {:<10} {:>8} {:>8}",
        "", "RS", "shard", "peer", "engine", "GB/s", "ratio"
    );
    for row in &report.rows {
        for rate in &row.engines {
            println!(
                "{:<12} {:>8} {:>9} {:>8.2}  {:<10} {:>8.2} {:>8.2}",
                row.operation,
                format!("({},{})", row.data_count, row.parity_count),
                format!("{} KiB", row.shard_len_bytes >> 10),
                row.peer_gb_per_s,
                rate.engine,
                rate.gb_per_s,
                rate.ratio_to_peer
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Stripe, median};

    #[test]
    fn every_operation_is_measured_and_reconstruct_gives_the_data_back() {
        let stripe = Stripe::new(3, 2, 4096).unwrap();
        let arguments = Arguments { rounds: 1, milliseconds: 1, json: false };
        for operation in ["encode", "verify", "reconstruct"] {
            let row = stripe.measure(operation, &arguments).unwrap();
            assert!(row.peer_gb_per_s > 0.0 && !row.engines.is_empty());
            assert!(row.engines.iter().all(|rate| rate.gb_per_s > 0.0 && rate.ratio_to_peer > 0.0));
        }
        for codec in &stripe.codecs {
            let present: Vec<(usize, &[u8])> =
                stripe.own_shards.iter().map(Vec::as_slice).enumerate().skip(2).collect();
            let mut outputs = vec![vec![0; 4096]; 2];
            let mut wanted: Vec<(usize, &mut [u8])> =
                outputs.iter_mut().map(Vec::as_mut_slice).enumerate().collect();
            codec.reconstruct_some(&present, &mut wanted).unwrap();
            assert_eq!(outputs, stripe.data[..2]);
        }
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![5.0]), 5.0);
    }
}
