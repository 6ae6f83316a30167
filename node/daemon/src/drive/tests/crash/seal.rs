//! A seal over three holders in three zones: any one of them, or all, lose power before any change that any of them makes, with everything
//! that this may leave. What was acknowledged is in every length that is decided, and a later decision never cuts what an earlier one agreed on.

use super::super::support::{self, BLOCK, Writer, bytes_of, copies, read, run};
use super::disk::{Disk, Random, Recorded, Trigger};
use super::images::cut_at_end;
use super::{open, seeds};
use crate::drive::{Drive, FormatSpec, format};
use strongroom_core::mutants::MutantSwitch;
use strongroom_core::sealer::{Answer, Attempt, Decision, GivenOut, Seal as Decided, decide};
use strongroom_core::{AckRule, FragmentSet, Spread};
use strongroom_format::wire::message::{Append, FragmentAddress, Refusal, Seal, SealReport, Settle};
use strongroom_types::slab::Sealed;
use strongroom_types::{DriveId, Epoch, FragmentIndex, NodeId, RowSequence, ZoneId};

pub(super) const HOLDERS: usize = 3;
const EXTENTS: u64 = 6;

/// A drive in a zone of its own, in use.
pub(super) struct Holder {
    pub(super) recorded: Recorded,
    pub(super) start: Disk,
    pub(super) drive: Drive,
}

/// How many of the rows each holder gets, and how long the rows are.
struct Pattern {
    rows: &'static [u32],
    sent: [usize; HOLDERS],
}

const PATTERNS: [Pattern; 6] = [
    Pattern { rows: &[1, 2, 1], sent: [3, 3, 3] },
    Pattern { rows: &[1, 2, 1], sent: [3, 2, 1] },
    Pattern { rows: &[2, 62, 1], sent: [1, 3, 2] },
    Pattern { rows: &[1], sent: [1, 0, 0] },
    Pattern { rows: &[70, 1], sent: [0, 2, 2] },
    // What is cut of the first holder reaches into another extent.
    Pattern { rows: &[1, 61], sent: [2, 1, 1] },
];

/// Which holders lose power.
pub(super) const HITS: [[bool; HOLDERS]; 4] =
    [[true, false, false], [false, true, false], [false, false, true], [true, true, true]];

pub(super) fn spread() -> Spread {
    let places: Vec<_> = (1..=3).map(|place| (ZoneId::new(place), NodeId::new(u64::from(place)))).collect();
    Spread::from_places(copies(), &places).unwrap()
}

/// Formatted disks.
pub(super) async fn formatted(extents: u64) -> Vec<Disk> {
    let mut disks = Vec::new();
    for index in 0..HOLDERS {
        let recorded = Recorded::new(Disk::new(2 * support::EXTENTS_AT + extents * support::EXTENT));
        let spec = FormatSpec { drive: DriveId::new(index as u128 + 1), ..support::spec() };
        format(recorded.device().as_ref(), &spec).await.unwrap();
        disks.push(recorded.disk());
    }
    disks
}

/// Holders on such disks.
pub(super) async fn on(disks: &[Disk]) -> Vec<Holder> {
    let mut holders = Vec::new();
    for start in disks {
        let recorded = Recorded::new(start.clone());
        let (drive, _) = open(&recorded).await.unwrap();
        holders.push(Holder { recorded, start: start.clone(), drive });
    }
    holders
}

/// The writer's side of fragment `index`.
pub(super) fn writer_of(index: usize) -> Writer {
    let mut writer = Writer::new(1);
    writer.address.drive = DriveId::new(index as u128 + 1);
    writer.address.fragment = FragmentIndex::new(u8::try_from(index).unwrap());
    writer
}

/// All copies hold the same bytes.
fn payload(writer: &Writer, offset_bytes: u32, blocks: u32) -> bytes::Bytes {
    let address = FragmentAddress { fragment: FragmentIndex::new(0), ..writer.address };
    bytes_of(&address, offset_bytes, blocks * BLOCK)
}

/// What a cut may leave of each holder that was hit.
pub(super) struct Leavings(Vec<(usize, Vec<Disk>)>);

impl Leavings {
    pub(super) fn of(holders: &[Holder], hit: [bool; HOLDERS], seed: u64) -> Self {
        let hit = holders.iter().enumerate().filter(|(index, _)| hit[*index]);
        let left = hit.map(|(index, holder)| (index, holder.recorded.left(&holder.start, seed)));
        Self(left.collect())
    }

    /// So many leave each image of a holder that fell alone, and as many mixtures where all did.
    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|(_, images)| images.len()).max().unwrap_or(0)
    }

    /// Starts the holders again with what choice `variant` left of them.
    pub(super) async fn restart(&self, holders: &mut [Holder], variant: usize) {
        for (index, images) in &self.0 {
            // Of several each has its own by turns, but for the first two: nothing, and all.
            let own = if self.0.len() == 1 || variant < 2 { variant } else { variant * 7 + index * 3 };
            let image = images[own % images.len()].clone();
            let recorded = Recorded::new(image.clone());
            let (drive, _) = open(&recorded).await.expect("it was formatted long ago");
            holders[*index] = Holder { recorded, start: image, drive };
        }
    }
}

impl Recorded {
    fn left(&self, start: &Disk, seed: u64) -> Vec<Disk> {
        cut_at_end(start, &self.log()).images(seed)
    }
}

struct Story {
    holders: Vec<Holder>,
    pattern: &'static Pattern,
    /// Rows acknowledged to the writer: two zones have them.
    acked: u32,
    /// Holders that answered a fence, and the highest epoch of it.
    fenced: [Option<u32>; HOLDERS],
    committed: Option<Sealed>,
}

impl Story {
    fn ends(&self) -> Vec<u32> {
        self.pattern
            .rows
            .iter()
            .scan(0, |end, blocks| {
                *end += blocks;
                Some(*end)
            })
            .collect()
    }

    fn row(&self, index: usize, row: usize) -> (Append, bytes::Bytes) {
        let mut writer = writer_of(index);
        writer.ends = self.ends()[..row].into();
        let offset_bytes = writer.end_bytes();
        let blocks = self.pattern.rows.get(row).copied().unwrap_or(1);
        let (append, _) = writer.row(blocks, self.acked.min(u32::try_from(row).unwrap()));
        (append, payload(&writer, offset_bytes, blocks))
    }

    async fn write(&mut self) {
        let mut held = [true; HOLDERS];
        for row in 0..self.pattern.rows.len() {
            let mut count = 0;
            for (index, held) in held.iter_mut().enumerate() {
                if *held && row < self.pattern.sent[index] {
                    let (append, payload) = self.row(index, row);
                    *held = self.holders[index].drive.append(append, payload).await.is_ok();
                    count += u32::from(*held);
                }
            }
            // Rows are acknowledged in their order.
            if count >= 2 && self.acked as usize == row {
                self.acked += 1;
            }
        }
    }

    async fn ask(&mut self, epoch: u32) -> Vec<Answer> {
        let mut answers = Vec::new();
        for index in 0..HOLDERS {
            let seal =
                Seal { address: writer_of(index).address, profile: copies(), epoch: Epoch::new(epoch) };
            answers.push(match self.holders[index].drive.seal(seal).await {
                Ok(report) => {
                    self.fenced[index] = Some(epoch);
                    Answer::Report(report)
                }
                Err(_) => Answer::Silent,
            });
        }
        answers
    }

    async fn settle(&self, epoch: u32, decided: &Decided) -> usize {
        let mut settled = 0;
        for index in (0..HOLDERS).filter(|index| decided.settle.contains(fragment(*index))) {
            let settle = Settle {
                address: writer_of(index).address,
                epoch: Epoch::new(epoch),
                rows: decided.sealed.rows,
                root_crc32c: decided.sealed.root_crc32c,
            };
            settled += usize::from(self.holders[index].drive.settle(settle).await.is_ok());
        }
        settled
    }

    /// One attempt; what it decided. Committed if it is the first, as the slab table does.
    async fn attempt(&mut self, epoch: u32) -> Option<(Decided, Vec<Answer>)> {
        let answers = self.ask(epoch).await;
        let end = self.acked.checked_sub(1).map_or(0, |last| self.ends()[last as usize]);
        // The writer's own word, or what the namespace has.
        let given_out = match epoch % 2 {
            0 => GivenOut::Rows(RowSequence::new(self.acked)),
            _ => GivenOut::Bytes(end * BLOCK),
        };
        let (spread, rule, epoch) = (&spread(), AckRule::Zone, Epoch::new(epoch));
        let attempt = Attempt { spread, rule, epoch, given_out, mutants: MutantSwitch::NONE };
        let Decision::Seal(decided) = decide(attempt, &answers) else { return None };
        self.check_decided(&decided, &answers);
        self.committed.get_or_insert_with(|| decided.sealed.clone());
        self.settle(epoch.get(), &decided).await;
        Some((decided, answers))
    }

    fn check_decided(&self, decided: &Decided, answers: &[Answer]) {
        let rows = decided.sealed.rows;
        assert_eq!(rows, self.acked, "what was acknowledged, and nothing that nobody points to");
        assert_eq!(decided.alarm, None, "nothing is lost");
        let Some(committed) = &self.committed else { return };
        assert!(rows >= committed.rows, "cut below what was agreed on");
        for report in answers.iter().filter_map(report_of).filter(|report| report.rows >= committed.rows) {
            let root = committed.rows.checked_sub(1).map_or(0, |last| report.row_chain_crc32c[last as usize]);
            assert_eq!(root, committed.root_crc32c);
        }
    }

    /// No holder that answered a fence takes a row of before it.
    async fn check_fences(&self) {
        for (index, fenced) in self.fenced.iter().enumerate() {
            let Some(epoch) = fenced else { continue };
            for row in 0..=self.pattern.rows.len() {
                let (append, payload) = self.row(index, row);
                let refused = self.holders[index].drive.append(append, payload).await;
                let known =
                    matches!(refused, Err(Refusal::Fenced { epoch: known }) if known >= Epoch::new(*epoch));
                assert!(known, "holder {index} answered a fence at {epoch}: {refused:?}");
            }
        }
    }

    async fn check_bytes(&self, decided: &Decided) {
        for index in (0..HOLDERS).filter(|index| decided.complete().contains(fragment(*index))) {
            let writer = writer_of(index);
            let mut start = 0;
            for end in &self.ends()[..decided.sealed.rows as usize] {
                let found =
                    read(&self.holders[index].drive, &writer.address, start * BLOCK, (end - start) * BLOCK)
                        .await;
                assert!(found == Ok(payload(&writer, start * BLOCK, end - start)), "{:?}", found.err());
                start = *end;
            }
        }
    }
}

fn fragment(index: usize) -> FragmentIndex {
    FragmentIndex::new(u8::try_from(index).unwrap())
}

fn report_of(answer: &Answer) -> Option<&SealReport> {
    match answer {
        Answer::Report(report) => Some(report),
        Answer::Silent => None,
    }
}

/// Writes and seals with power cut before change `at`, starts again what fell, seals again, perhaps with another cut. `left` is what the cut may
/// leave, where it is known already; `None` is answered where power was not cut.
async fn tell(
    pattern: &'static Pattern,
    disks: &[Disk],
    (at, hit): (u64, [bool; HOLDERS]),
    (variant, seed): (usize, u64),
    left: Option<Leavings>,
) -> Option<Leavings> {
    let mut story =
        Story { holders: on(disks).await, pattern, acked: 0, fenced: [None; HOLDERS], committed: None };
    let trigger = Trigger::at(at);
    for (holder, hit) in story.holders.iter().zip(hit) {
        holder.recorded.arm(&trigger, hit);
    }
    story.write().await;
    story.attempt(2).await;
    if !trigger.fired() {
        return None;
    }
    let left = left.unwrap_or_else(|| Leavings::of(&story.holders, hit, seed));
    left.restart(&mut story.holders, variant).await;
    story.check_fences().await;

    // The second attempt is cut too, one time in three, at another holder perhaps.
    let mut random = Random(seed ^ at << 8 ^ variant as u64);
    if random.below(3) == 0 {
        let (hit, trigger) = (HITS[random.below(HITS.len())], Trigger::at(random.below(8) as u64));
        for (holder, hit) in story.holders.iter().zip(hit) {
            holder.recorded.arm(&trigger, hit);
        }
        story.attempt(3).await;
        let left = Leavings::of(&story.holders, hit, seed);
        left.restart(&mut story.holders, random.below(64)).await;
        story.check_fences().await;
    }
    for holder in &story.holders {
        holder.recorded.arm(&Trigger::never(), false);
    }
    for epoch in [4, 5] {
        let (decided, answers) = story.attempt(epoch).await.expect("all answer, so it is decided");
        assert!(answers.iter().all(|answer| report_of(answer).is_some()));
        assert_eq!(decided.settle.union(FragmentSet::from_mask(decided.sealed.missing)), spread().all());
        story.check_bytes(&decided).await;
        story.check_fences().await;
        story.holders.iter().for_each(|holder| support::check_agreed(&holder.drive));
    }
    Some(left)
}

#[test]
fn no_cut_makes_two_seals_differ_or_cut_what_was_acknowledged() {
    run(async {
        let disks = formatted(EXTENTS).await;
        let mut told = 0u64;
        for seed in seeds() {
            for pattern in &PATTERNS {
                for hit in HITS {
                    for at in 0.. {
                        let place = (at, hit);
                        let Some(mut left) = tell(pattern, &disks, place, (0, seed), None).await else {
                            assert!(at > 6, "the workload has become too small");
                            break;
                        };
                        for variant in 1..left.count() {
                            left = tell(pattern, &disks, place, (variant, seed), Some(left)).await.unwrap();
                        }
                        told += left.count() as u64;
                    }
                }
            }
        }
        println!("seal: {told} stories");
        assert!(told > 1000);
    });
}
