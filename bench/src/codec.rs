//! `codec`: encode, verify, reconstruct and sum up, beside ISA-L and two crates.
//!
//! Rounds alternate between the codecs, so that whatever else the machine does meets all of them; time is this thread's on a processor; ratios are taken round by
//! round before their median. Before anything is timed, every codec's result is checked.

mod bound;
mod clock;
mod hashes;
mod isal;
mod sides;
mod stripe;

use crate::machine::Machine;
use anyhow::Context;
use bound::Rates;
use isal::Isal;
use serde::Serialize;
use sides::{Erasure, OfIsal, Operation, Own, Side, Simd};
use std::path::PathBuf;
use std::process::ExitCode;
use stripe::{Layout, Pool};
use strongroom_erasure::{Codec, Engine, MatrixId, Write};
use strongroom_io::AlignedBuffer;

/// Those that codecs are commonly measured with, and the design's.
const PROFILES: [(usize, usize); 11] =
    [(4, 2), (6, 6), (8, 4), (10, 4), (4, 6), (17, 3), (7, 5), (9, 6), (5, 4), (3, 3), (6, 8)];
/// Bytes of a shard.
const LENS_BYTES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];
/// Bytes of the cold stripes of one codec: several times the last cache of the machines this is for.
const COLD_BYTES: usize = 192 << 20;

/// Encode, verify, reconstruct and sum up, beside ISA-L and two crates.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Rounds; each runs every codec once.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Milliseconds for each codec in each round.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    milliseconds: u32,
    /// ISA-L's shared library; without it libisal.so.2 is used if the machine has it.
    #[arg(long, value_name = "FILE")]
    isal: Option<PathBuf>,
    /// Only this one; may be given several times.
    #[arg(long, value_enum)]
    operation: Vec<Operation>,
    /// Only this profile, K,M; may be given several times.
    #[arg(long, value_name = "K,M", value_parser = parse_profile)]
    profile: Vec<(usize, usize)>,
    /// All engines of this machine, not only the one that nodes use.
    #[arg(long)]
    all_engines: bool,
    /// Only with stripes that stay in the caches.
    #[arg(long)]
    warm_only: bool,
    /// So many bytes further behind the beginning of a page each shard begins than the one before. With 0 all begin at pages, as drives want it; then lines at the same place of
    /// all shards share one set of the first-level cache.
    #[arg(long, default_value_t = 0, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(..=4096))]
    apart: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn parse_profile(text: &str) -> Result<(usize, usize), String> {
    let parts =
        text.split_once(',').and_then(|(k, m)| Some((k.trim().parse().ok()?, m.trim().parse().ok()?)));
    let (k, m) = parts.ok_or("expected two numbers with a comma between them, as in 8,4")?;
    Codec::new(k, m, MatrixId::NormalisedCauchy).map_err(|error| error.to_string())?;
    Ok((k, m))
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    rounds: u32,
    /// By this thread, while it measured.
    gigahertz: f64,
    rates: Rates,
    apart_bytes: usize,
    isal: Option<String>,
    rows: Vec<Row>,
    hashes: Vec<hashes::Hash>,
}

/// One operation at one profile and length. Rates are medians over the rounds, in GB/s (10^9) of the data shards' bytes.
#[derive(Serialize)]
struct Row {
    operation: Operation,
    data_count: usize,
    parity_count: usize,
    shard_len_bytes: usize,
    cold: bool,
    /// What the machine allows.
    bound_gb_per_s: Option<f64>,
    sides: Vec<Rate>,
}

#[derive(Serialize)]
struct Rate {
    side: String,
    gb_per_s: f64,
    /// How much faster the node's engine is: median of the rounds' ratios, not ratio of the medians.
    own_ratio: f64,
}

/// Runs and prints it.
///
/// # Errors
/// When a codec computes something wrong, or a library that was named cannot be loaded.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let isal = match Isal::load(arguments.isal.as_deref()) {
        Ok(isal) => Some(isal),
        Err(error) if arguments.isal.is_some() => return Err(error),
        Err(_) => {
            eprintln!(
                "no ISA-L here: its column is left out (Debian: apt-get install libisal2, or --isal FILE)"
            );
            None
        }
    };
    let gigahertz = clock::gigahertz();
    let mut report = Report {
        machine: Machine::here(),
        rounds: arguments.rounds,
        gigahertz,
        rates: Rates::here(gigahertz),
        apart_bytes: arguments.apart.into(),
        isal: isal.as_ref().map(|_| {
            arguments.isal.as_ref().map_or("libisal.so.2".into(), |path| path.display().to_string())
        }),
        rows: Vec::new(),
        hashes: Vec::new(),
    };
    let operations = if arguments.operation.is_empty() { &Operation::ALL[..] } else { &arguments.operation };
    let profiles = if arguments.profile.is_empty() { &PROFILES[..] } else { &arguments.profile };
    for cold in [false, true] {
        if cold && arguments.warm_only {
            continue;
        }
        for &operation in operations {
            for &profile in profiles {
                for len_bytes in LENS_BYTES {
                    let layout = Layout { len_bytes, apart_bytes: arguments.apart.into() };
                    let mut row = measure(isal.as_ref(), operation, profile, layout, cold, arguments)?;
                    row.bound_gb_per_s = report.rates.of(&row);
                    report.rows.push(row);
                }
            }
        }
    }
    if arguments.operation.is_empty() && arguments.profile.is_empty() {
        report.hashes = hashes::measure(isal.as_ref(), arguments.rounds)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).context("a report as JSON")?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// All that are compared, the node's engine first. Each has its own part of `scratch`.
fn sides<'a>(
    isal: Option<&'a Isal>,
    profile: (usize, usize),
    layout: Layout,
    cold: bool,
    all_engines: bool,
    scratch: &'a mut [AlignedBuffer],
) -> anyhow::Result<Vec<Box<dyn Side + 'a>>> {
    let mut scratch = scratch.iter_mut();
    let mut next = || scratch.next().context("there is scratch for each side");
    let codec = |engine| Codec::with_engine(profile.0, profile.1, MatrixId::NormalisedCauchy, engine);
    let own = Engine::detect();
    let mut sides: Vec<Box<dyn Side + 'a>> =
        vec![Box::new(Own::new(codec(own)?, layout, Write::Replace, next()?))];
    if let Some(isal) = isal {
        sides.push(Box::new(OfIsal::new(isal, codec(own)?, layout, next()?)?));
    }
    if cold {
        sides.push(Box::new(Own::new(codec(own)?, layout, Write::Stream, next()?)));
    }
    // The plain definition is an oracle for tests and takes minutes here.
    let others =
        Engine::available().filter(|engine| ![own.name(), Engine::naive().name()].contains(&engine.name()));
    for engine in others.filter(|_| all_engines) {
        sides.push(Box::new(Own::new(codec(engine)?, layout, Write::Replace, next()?)));
    }
    sides.push(Box::new(Erasure::new(profile, layout.len_bytes)?));
    sides.push(Box::new(Simd::new(profile, layout.len_bytes)?));
    Ok(sides)
}

/// A codec that is measured.
struct Measured<'a> {
    side: Box<dyn Side + 'a>,
    pool: Pool<'a>,
    /// How often in a round.
    count: u32,
    rates: Vec<f64>,
}

fn measure(
    isal: Option<&Isal>,
    operation: Operation,
    profile: (usize, usize),
    layout: Layout,
    cold: bool,
    arguments: &Arguments,
) -> anyhow::Result<Row> {
    let seconds = f64::from(arguments.milliseconds) / 1e3;
    let shape = Codec::new(profile.0, profile.1, MatrixId::NormalisedCauchy)?;
    let sides_max = Engine::available().count() + 4;
    let mut scratch: Vec<AlignedBuffer> = (0..sides_max).map(|_| layout.arena(profile.1)).collect();
    let mut sides = sides(isal, profile, layout, cold, arguments.all_engines, &mut scratch)?;
    sides.retain(|side| side.can(operation));
    let stripe_count = if cold { layout.stripe_count(&shape, COLD_BYTES) } else { 1 };
    let arena = || layout.arena(stripe_count * shape.shard_count());
    let mut arenas: Vec<AlignedBuffer> = sides.iter().map(|_| arena()).collect();
    let mut measured = Vec::new();
    for (mut side, arena) in sides.into_iter().zip(&mut arenas) {
        side.check(layout)?;
        let codec = Codec::new(profile.0, profile.1, side.matrix())?;
        let mut pool = Pool::new(&codec, layout, operation.parity(), arena);
        let count = calibrate(&mut *side, operation, &mut pool, seconds);
        measured.push(Measured { side, pool, count, rates: Vec::new() });
    }
    let bytes = (profile.0 * layout.len_bytes) as f64;
    for _ in 0..arguments.rounds {
        for Measured { side, pool, count, rates } in &mut measured {
            rates.push(bytes * f64::from(*count) / time(&mut **side, operation, pool, *count) / 1e9);
        }
    }
    let own = measured.first().map(|own| own.rates.clone()).context("the node's engine comes first")?;
    let rates = measured.into_iter().map(|Measured { side, rates, .. }| Rate {
        side: side.name(),
        own_ratio: median(own.iter().zip(&rates).map(|(own, rate)| own / rate).collect()),
        gb_per_s: median(rates),
    });
    let (data_count, parity_count) = profile;
    Ok(Row {
        operation,
        data_count,
        parity_count,
        shard_len_bytes: layout.len_bytes,
        cold,
        bound_gb_per_s: None,
        sides: rates.collect(),
    })
}

fn time(side: &mut dyn Side, operation: Operation, pool: &mut Pool<'_>, count: u32) -> f64 {
    let begun = clock::cpu_seconds();
    for _ in 0..count {
        side.run(operation, pool.next());
    }
    clock::cpu_seconds() - begun
}

/// How often it is done in so many seconds, at least once.
fn calibrate(side: &mut dyn Side, operation: Operation, pool: &mut Pool<'_>, seconds: f64) -> u32 {
    let mut count = 1;
    loop {
        let taken = time(side, operation, pool, count);
        if taken >= seconds / 4.0 || count >= 1 << 20 {
            let once = taken / f64::from(count);
            return ((seconds / once) as u32).clamp(1, 1 << 24);
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
        "{:.2} GHz; memory: {:.1} GB/s read, {:.1} GB/s written; shards {} bytes apart from pages; ISA-L: {}",
        report.gigahertz,
        report.rates.read_gb_per_s,
        report.rates.write_gb_per_s,
        report.apart_bytes,
        report.isal.as_deref().unwrap_or("none")
    );
    println!(
        "GB/s of data by CPU time of one thread, medians of {} rounds; in brackets how much faster the first is; bound: one product of 64 bytes a cycle, sums as fast as from the first-level cache, memory where it is cold",
        report.rounds
    );
    for row in &report.rows {
        let bound = row.bound_gb_per_s.map_or(String::from("-"), |bound| format!("{bound:.0}"));
        print!(
            "{:<11} {:<4} {:>7} {:>8}  bound {:>4} ",
            row.operation.name(),
            if row.cold { "cold" } else { "warm" },
            format!("({},{})", row.data_count, row.parity_count),
            format!("{} KiB", row.shard_len_bytes >> 10),
            bound
        );
        for (index, rate) in row.sides.iter().enumerate() {
            print!("  {} {:.1}", rate.side, rate.gb_per_s);
            if index > 0 {
                print!(" ({:.2}x)", rate.own_ratio);
            }
        }
        println!();
    }
    hashes::print(&report.hashes);
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Isal, Layout, Operation, clock, hashes, measure, median, parse_profile};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// ISA-L, if the machine has it. Where `STRONGROOM_NO_SKIP` is set, it must.
    fn isal() -> Option<Isal> {
        let isal = Isal::load(None);
        let must = std::env::var_os("STRONGROOM_NO_SKIP").is_some_and(|value| !value.is_empty());
        assert!(!must || isal.is_ok(), "STRONGROOM_NO_SKIP is set: {:#}", isal.err().unwrap());
        isal.ok()
    }

    /// Each side is checked before it is timed, so this is where one that computes something else is seen.
    #[test]
    fn every_operation_is_measured_with_every_side_that_has_it() {
        let line = Line::parse_from(["codec", "--rounds", "1", "--milliseconds", "1", "--all-engines"]);
        let isal = isal();
        for (operation, others) in [
            (Operation::Encode, 2),
            (Operation::Verify, 1),
            (Operation::Reconstruct, 0),
            (Operation::EncodeAndSum, 0),
        ] {
            let layout = Layout { len_bytes: 4096, apart_bytes: 128 };
            let row = measure(isal.as_ref(), operation, (3, 2), layout, false, &line.arguments).unwrap();
            assert!(row.sides.len() > others && row.sides[0].own_ratio == 1.0);
            assert!(row.sides.iter().all(|side| side.gb_per_s > 0.0 && side.own_ratio > 0.0));
        }
    }

    #[test]
    fn hashes_are_those_of_the_crates() {
        let hashes = hashes::measure(isal().as_ref(), 1).unwrap();
        assert!(hashes.iter().all(|hash| hash.gb_per_s > 0.0 && !hash.others.is_empty()));
    }

    #[test]
    fn profiles_are_two_numbers_of_a_code_that_exists() {
        assert_eq!(parse_profile("8, 4"), Ok((8, 4)));
        assert!(parse_profile("8").unwrap_err().contains("8,4"));
        assert!(parse_profile("30,4").unwrap_err().contains("k + m <= 32"));
    }

    #[test]
    fn the_clock_runs_and_a_median_is_in_the_middle() {
        assert!(clock::gigahertz() > 0.1);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![5.0]), 5.0);
    }
}
