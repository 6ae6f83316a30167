//! What a power cut may leave of a disk: all that was flushed, and of each write that was not, all, nothing, or some of its sectors.

use super::disk::{BLOCK, Disk, Event, Random, SECTOR};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Subsets of so many writes that no flush covered are tried all.
const PENDING_EXHAUSTIVE_MAX: usize = 6;
/// And of so many each with every way of `torn`: ends and middles, in sectors and in blocks.
const PENDING_TORN_EXHAUSTIVE_MAX: usize = 2;
/// Of more, so many by seed.
const SAMPLES: usize = 48;

/// A write that no flush covered.
#[derive(Clone)]
pub(super) struct Unflushed {
    offset_bytes: u64,
    bytes: Arc<[u8]>,
}

/// A moment at which power may fail.
#[derive(Clone)]
pub(super) struct Cut {
    /// Changes before it.
    pub(super) position: usize,
    durable: Disk,
    unflushed: Vec<Unflushed>,
}

/// The moment after the last change.
pub(super) fn cut_at_end(start: &Disk, log: &[Event]) -> Cut {
    let mut cut = Cut { position: 0, durable: start.clone(), unflushed: Vec::new() };
    log.iter().for_each(|event| cut.step(event));
    cut
}

/// The moment before each change and the one after the last.
pub(super) fn cuts(start: &Disk, log: &[Event]) -> Vec<Cut> {
    let mut cuts = vec![cut_at_end(start, &[])];
    for event in log {
        let mut next = cuts[cuts.len() - 1].clone();
        next.step(event);
        cuts.push(next);
    }
    cuts
}

/// What is left of one write.
#[derive(Clone, Copy)]
enum Fate {
    Absent,
    Whole,
    /// Without the units from `from` to `to`.
    Hole {
        unit: usize,
        from: usize,
        to: usize,
    },
    /// Only the units from `from` to `to`.
    Only {
        unit: usize,
        from: usize,
        to: usize,
    },
}

fn torn(write: &Unflushed) -> Vec<Fate> {
    let mut fates = Vec::new();
    for unit in [SECTOR, BLOCK] {
        let count = write.bytes.len() / unit;
        if count > 1 {
            let middle = count / 2;
            fates.extend([
                Fate::Only { unit, from: 0, to: 1 },
                Fate::Hole { unit, from: 0, to: 1 },
                Fate::Hole { unit, from: count - 1, to: count },
                Fate::Hole { unit, from: middle, to: middle + 1 },
            ]);
        }
    }
    fates
}

fn apply(disk: &mut Disk, write: &Unflushed, fate: Fate) {
    let Unflushed { offset_bytes, bytes } = write;
    match fate {
        Fate::Absent => {}
        Fate::Whole => disk.write(*offset_bytes, bytes),
        Fate::Hole { unit, from, to } => {
            disk.write_sectors(*offset_bytes, bytes, |sector| {
                !(from..to).contains(&(sector * SECTOR / unit))
            });
        }
        Fate::Only { unit, from, to } => {
            disk.write_sectors(*offset_bytes, bytes, |sector| (from..to).contains(&(sector * SECTOR / unit)));
        }
    }
}

impl Cut {
    fn step(&mut self, event: &Event) {
        self.position += 1;
        match event {
            Event::Write { offset_bytes, bytes } => {
                self.unflushed.push(Unflushed { offset_bytes: *offset_bytes, bytes: bytes.clone() });
            }
            Event::Flush => {
                for write in self.unflushed.drain(..) {
                    self.durable.write(write.offset_bytes, &write.bytes);
                }
            }
            Event::Discard { offset_bytes, len_bytes } => self.durable.discard(*offset_bytes, *len_bytes),
        }
    }

    /// All that may be left, or a choice by `seed` where that is too much; each once.
    pub(super) fn images(&self, seed: u64) -> Vec<Disk> {
        let count = self.unflushed.len();
        let mut images = Images { cut: self, seen: BTreeSet::new(), made: Vec::new() };
        let mut random = Random(seed ^ self.position as u64);
        images.add(&vec![Fate::Absent; count]);
        images.add(&vec![Fate::Whole; count]);
        if count > PENDING_EXHAUSTIVE_MAX {
            for _ in 0..SAMPLES {
                let fates = self.any(&mut random);
                images.add(&fates);
            }
            return images.made;
        }
        let mut choices: Vec<Vec<Fate>> = vec![Vec::new()];
        for write in &self.unflushed {
            let mut fates = vec![Fate::Absent, Fate::Whole];
            if count <= PENDING_TORN_EXHAUSTIVE_MAX {
                fates.extend(torn(write));
            }
            let with = |choice: &Vec<Fate>, fate: &Fate| choice.iter().chain([fate]).copied().collect();
            choices =
                choices.iter().flat_map(|choice| fates.iter().map(move |fate| with(choice, fate))).collect();
        }
        for fates in choices {
            images.add(&fates);
        }
        // Each torn in every way, beside others that are there, are not, or are as it happens.
        for (index, write) in self.unflushed.iter().enumerate() {
            for fate in torn(write) {
                for mut others in [
                    vec![Fate::Absent; count],
                    vec![Fate::Whole; count],
                    self.any(&mut random),
                    self.any(&mut random),
                ] {
                    others[index] = fate;
                    images.add(&others);
                }
            }
        }
        images.made
    }

    /// Nothing of what was not flushed, all of it, and a few in between.
    pub(super) fn few_images(&self, seed: u64) -> Vec<Disk> {
        let count = self.unflushed.len();
        let mut images = Images { cut: self, seen: BTreeSet::new(), made: Vec::new() };
        let mut random = Random(seed ^ self.position as u64);
        images.add(&vec![Fate::Absent; count]);
        images.add(&vec![Fate::Whole; count]);
        for _ in 0..3 {
            let fates = self.any(&mut random);
            images.add(&fates);
        }
        images.made
    }

    fn any(&self, random: &mut Random) -> Vec<Fate> {
        let one = |write| {
            let torn = torn(write);
            match random.below(3) {
                0 => Fate::Absent,
                1 => Fate::Whole,
                _ if torn.is_empty() => Fate::Whole,
                _ => torn[random.below(torn.len())],
            }
        };
        self.unflushed.iter().map(one).collect()
    }
}

struct Images<'a> {
    cut: &'a Cut,
    seen: BTreeSet<u64>,
    made: Vec<Disk>,
}

impl Images<'_> {
    fn add(&mut self, fates: &[Fate]) {
        let mut disk = self.cut.durable.clone();
        for (write, fate) in self.cut.unflushed.iter().zip(fates) {
            apply(&mut disk, write, *fate);
        }
        if self.seen.insert(disk.hash()) {
            self.made.push(disk);
        }
    }
}
