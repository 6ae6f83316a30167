//! Checksums and tags beside the crates and the library that are commonly used for them.

use crate::codec::clock::cpu_seconds;
use crate::codec::isal::Isal;
use crate::codec::median;
use anyhow::ensure;
use md5::Digest as _;
use serde::Serialize;
use std::hint::black_box;
use strongroom_erasure::crc32c::crc32c;
use strongroom_erasure::md5::{Md5, Update, update_all};

/// Bytes of a mail with a small attachment, and how many come at once.
const BODY_LEN_BYTES: usize = 75_000;
const BODIES: [usize; 4] = [1, 4, 8, 16];
const BLOCKS_LEN_BYTES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];
/// Bytes that are hashed in a round.
const ROUND_LEN_BYTES: usize = 16 << 20;

/// Somebody who hashes: does it once.
struct Side<'a> {
    name: &'static str,
    work: Box<dyn FnMut() + 'a>,
}

impl<'a> Side<'a> {
    fn new<T>(name: &'static str, mut work: impl FnMut() -> T + 'a) -> Self {
        Self { name, work: Box::new(move || _ = black_box(work())) }
    }
}

/// One length, or one number of bodies at once. GB/s are 10^9 bytes.
#[derive(Serialize)]
pub struct Hash {
    pub what: &'static str,
    pub len_bytes: usize,
    pub count: usize,
    pub gb_per_s: f64,
    /// Each with its rate and how much faster this is: medians.
    pub others: Vec<(&'static str, f64, f64)>,
}

/// All of them.
///
/// # Errors
/// They disagree.
pub fn measure(isal: Option<&Isal>, rounds: u32) -> anyhow::Result<Vec<Hash>> {
    let bodies: Vec<Vec<u8>> = (0..*BODIES.last().expect("there are some"))
        .map(|seed| {
            (0..BLOCKS_LEN_BYTES[2]).map(|place| (place * 131 + seed * 7 + (place >> 9)) as u8).collect()
        })
        .collect();
    let mut hashes = Vec::new();
    for len_bytes in BLOCKS_LEN_BYTES {
        let bytes = &bodies[0][..len_bytes];
        ensure!(crc32c(bytes) == ::crc32c::crc32c(bytes), "CRC32C of the crate is another one");
        let mut sides = vec![
            Side::new("own", || crc32c(black_box(bytes))),
            Side::new("crate crc32c", || ::crc32c::crc32c(black_box(bytes))),
        ];
        if let Some(isal) = isal {
            ensure!(crc32c(bytes) == isal.crc32c(bytes), "CRC32C of ISA-L is another one");
            sides.push(Side::new("ISA-L", || isal.crc32c(black_box(bytes))));
        }
        hashes.push(compare("CRC32C", (len_bytes, 1), rounds, sides));
    }
    for count in BODIES {
        let bodies: Vec<&[u8]> = bodies[..count].iter().map(|body| &body[..BODY_LEN_BYTES]).collect();
        let together = || {
            let mut messages = vec![Md5::default(); count];
            let mut updates: Vec<Update<'_>> =
                messages.iter_mut().zip(&bodies).map(|(message, bytes)| Update { message, bytes }).collect();
            update_all(&mut updates);
            messages.into_iter().map(Md5::finish).collect::<Vec<_>>()
        };
        let one_by_one =
            || bodies.iter().map(|body| md5::Md5::digest(body).into()).collect::<Vec<[u8; 16]>>();
        ensure!(together() == one_by_one(), "MD5 of the crate is another one");
        let sides = vec![Side::new("own", together), Side::new("crate md-5", one_by_one)];
        hashes.push(compare("MD5", (BODY_LEN_BYTES, count), rounds, sides));
    }
    Ok(hashes)
}

/// The first against the others, by turns.
fn compare(
    what: &'static str,
    (len_bytes, count): (usize, usize),
    rounds: u32,
    mut sides: Vec<Side<'_>>,
) -> Hash {
    let times = (ROUND_LEN_BYTES / (len_bytes * count)).max(1);
    let mut rates = vec![Vec::new(); sides.len()];
    for _ in 0..rounds {
        for (side, rates) in sides.iter_mut().zip(&mut rates) {
            let begun = cpu_seconds();
            (0..times).for_each(|_| (side.work)());
            rates.push((times * len_bytes * count) as f64 / (cpu_seconds() - begun) / 1e9);
        }
    }
    let others = sides.iter().zip(&rates).skip(1).map(|(side, of_other)| {
        let ratios = rates[0].iter().zip(of_other).map(|(own, other)| own / other);
        (side.name, median(of_other.clone()), median(ratios.collect()))
    });
    Hash { what, len_bytes, count, others: others.collect(), gb_per_s: median(rates[0].clone()) }
}

/// A line for each.
pub fn print(hashes: &[Hash]) {
    for hash in hashes {
        let length = format!("{:.1} KiB", hash.len_bytes as f64 / 1024.0);
        print!("{:<8} {:>2} of {length:>10}  {:.2} GB/s", hash.what, hash.count, hash.gb_per_s);
        for (name, rate, ratio) in &hash.others {
            print!("  {name} {rate:.2} ({ratio:.2}x)");
        }
        println!();
    }
}
