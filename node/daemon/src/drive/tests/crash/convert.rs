//! A conversion of copies on three drives to RS(2, 1), with the calls of encoder, caretaker and sweeper in their order: any one drive, or all, lose
//! power before any change that any of them makes, with everything that this may leave. What is called finished is whole, the copies are there
//! until the new layout is committed, and a later attempt goes through.

use super::super::support::{self, BLOCK, bytes_of, copies, read, run};
use super::disk::{Disk, Trigger};
use super::seal::{HITS, HOLDERS, Holder, Leavings, formatted, on, writer_of};
use super::seeds;
use bytes::Bytes;
use std::sync::LazyLock;
use strongroom_erasure::{Codec, MatrixId};
use strongroom_format::checksum::FragmentKey;
use strongroom_format::cold::{self, ChecksumTable};
use strongroom_format::wire::message::{
    FinishFragment, FragmentAddress, Free, Read, Refusal, Seal, Settle, WriteFragment,
};
use strongroom_types::{Epoch, Generation, Profile};

const ROWS: [u32; 3] = [3, 66, 2];
const EPOCH: u32 = 2;
/// Blocks of each slice that are worked on at once.
const WINDOW_BLOCKS: u32 = 14;

static IMAGE: LazyLock<Bytes> =
    LazyLock::new(|| bytes_of(&writer_of(0).address, 0, ROWS.iter().sum::<u32>() * BLOCK));

/// The whole of each fragment, computed at once, and its checksum table's checksum.
static FRAGMENTS: LazyLock<Vec<(Vec<u8>, u32)>> = LazyLock::new(|| {
    let mut padded = IMAGE.to_vec();
    padded.resize(2 * slice_len() as usize, 0);
    let (first, second) = padded.split_at(slice_len() as usize);
    let mut parity = vec![0; slice_len() as usize];
    codec().encode(&[first, second], &mut [&mut parity]).unwrap();
    let all = [first.to_vec(), second.to_vec(), parity];
    all.into_iter().enumerate().map(|(index, bytes)| (bytes.clone(), table_of(index, &bytes))).collect()
});

fn profile() -> Profile {
    Profile::new(2, 1).unwrap()
}

fn image_len() -> u32 {
    u32::try_from(IMAGE.len()).unwrap()
}

fn slice_len() -> u32 {
    cold::slice_len(image_len(), profile().data_count())
}

fn codec() -> Codec {
    Codec::new(2, 1, MatrixId::NormalisedCauchy).unwrap()
}

fn cold_address(index: usize) -> FragmentAddress {
    FragmentAddress { generation: Generation::new(2), ..writer_of(index).address }
}

fn table_of(index: usize, bytes: &[u8]) -> u32 {
    let FragmentAddress { slab, fragment, generation, .. } = cold_address(index);
    let mut table = ChecksumTable::new(FragmentKey { slab, fragment, generation });
    table.push_blocks(bytes).unwrap();
    table.table_crc32c()
}

struct Story {
    holders: Vec<Holder>,
    root_crc32c: u32,
    /// The new layout is in the slab table.
    committed: bool,
    /// Fragments whose end was acknowledged.
    finished: [bool; HOLDERS],
    /// Copies that may be gone.
    freeing: [bool; HOLDERS],
}

impl Story {
    /// A part of the image, from the first copy that gives it.
    async fn source(&self, start: u32, end: u32) -> Option<Bytes> {
        for (index, holder) in self.holders.iter().enumerate() {
            let (address, len_bytes) = (writer_of(index).address, end - start);
            let read = Read { address, offset_bytes: start, len_bytes, foreground: false };
            if let Ok(bytes) = holder.drive.read(read).await {
                return Some(bytes);
            }
        }
        None
    }

    /// The same window of both slices and of their parity.
    async fn window(&self, position: u32, window: u32) -> Option<[Vec<u8>; 3]> {
        let mut slices = [Vec::new(), Vec::new(), vec![0; window as usize]];
        for (index, bytes) in (0..2).zip(&mut slices) {
            let start = (index * slice_len() + position).min(image_len());
            let end = (index * slice_len() + position + window).min(image_len());
            if start < end {
                *bytes = self.source(start, end).await?.to_vec();
            }
            bytes.resize(window as usize, 0);
        }
        let [first, second, parity] = &mut slices;
        codec().encode(&[first, second], &mut [parity]).unwrap();
        Some(slices)
    }

    /// The encoder: window by window, then the ends.
    async fn encode(&mut self) -> Option<()> {
        for position in (0..slice_len()).step_by((WINDOW_BLOCKS * BLOCK) as usize) {
            let window = (WINDOW_BLOCKS * BLOCK).min(slice_len() - position);
            for (index, piece) in self.window(position, window).await?.into_iter().enumerate() {
                let write = WriteFragment {
                    address: cold_address(index),
                    profile: profile(),
                    slice_len_bytes: slice_len(),
                    offset_bytes: position,
                };
                self.holders[index].drive.write_fragment(write, piece.into()).await.ok()?;
            }
        }
        for index in 0..HOLDERS {
            let finish = FinishFragment {
                address: cold_address(index),
                image_len_bytes: image_len(),
                epoch: Epoch::new(EPOCH),
                rows: u32::try_from(ROWS.len()).unwrap(),
                root_crc32c: self.root_crc32c,
            };
            let found = self.holders[index].drive.finish_fragment(finish).await.ok()?;
            assert_eq!(found, FRAGMENTS[index].1, "what the holder has is what was sent");
            self.finished[index] = true;
        }
        Some(())
    }

    /// Caretaker and sweepers: the table first, then each node's own copies.
    async fn convert(&mut self) -> Option<()> {
        if !self.committed {
            self.encode().await?;
            self.committed = true;
        }
        let mut done = Some(());
        for index in 0..HOLDERS {
            self.freeing[index] = true;
            let freed = self.holders[index].drive.free(Free { address: writer_of(index).address }).await;
            done = done.filter(|()| freed.is_ok());
        }
        done
    }

    async fn check(&self) {
        for (index, holder) in self.holders.iter().enumerate() {
            support::check_space(&holder.drive);
            let here = support::reports(&holder.drive);
            let cold = here.iter().find(|report| report.address == cold_address(index));
            let finished = cold.is_some_and(|report| report.sealed);
            assert!(finished || !self.finished[index], "fragment {index} was acknowledged and is not whole");
            assert!(finished || !self.committed, "committed with fragment {index} unfinished");
            match read(&holder.drive, &cold_address(index), 0, slice_len()).await {
                Ok(bytes) => assert!(finished && bytes == FRAGMENTS[index].0),
                Err(Refusal::NotHere | Refusal::Beyond { .. } | Refusal::Corrupt { .. }) => {
                    assert!(!finished)
                }
                Err(refusal) => panic!("fragment {index}: {refusal}"),
            }
            let copy = read(&holder.drive, &writer_of(index).address, 0, image_len()).await;
            assert!(copy.as_ref() == Ok(&*IMAGE) || self.freeing[index], "copy {index}: {:?}", copy.err());
            assert!(!self.freeing[index] || self.committed, "freed before the table knew");
        }
    }
}

/// Disks with three copies, sealed and settled, and their root.
async fn prepared() -> (Vec<Disk>, u32) {
    let holders = on(&formatted(8).await).await;
    let mut root_crc32c = 0;
    for (index, holder) in holders.iter().enumerate() {
        let mut writer = writer_of(index);
        for blocks in ROWS {
            let start = writer.end_bytes() as usize;
            let (append, _) = writer.row(blocks, 0);
            let bytes = IMAGE.slice(start..start + (blocks * BLOCK) as usize);
            holder.drive.append(append, bytes).await.unwrap();
        }
        let (address, epoch) = (writer.address, Epoch::new(EPOCH));
        let report = holder.drive.seal(Seal { address, profile: copies(), epoch }).await.unwrap();
        root_crc32c = *report.row_chain_crc32c.last().unwrap();
        holder.drive.settle(Settle { address, epoch, rows: report.rows, root_crc32c }).await.unwrap();
    }
    (holders.iter().map(|holder| holder.recorded.disk()).collect(), root_crc32c)
}

/// Converts with power cut before change `at`, starts again what fell, converts again. `left` is what the cut may leave, where it is known already;
/// `None` is answered where power was not cut.
async fn tell(
    (disks, root_crc32c): (&[Disk], u32),
    (at, hit): (u64, [bool; HOLDERS]),
    (variant, seed): (usize, u64),
    left: Option<Leavings>,
) -> Option<Leavings> {
    let (finished, freeing) = ([false; HOLDERS], [false; HOLDERS]);
    let mut story = Story { holders: on(disks).await, root_crc32c, committed: false, finished, freeing };
    let trigger = Trigger::at(at);
    for (holder, hit) in story.holders.iter().zip(hit) {
        holder.recorded.arm(&trigger, hit);
    }
    let ended = story.convert().await.is_some();
    if !trigger.fired() {
        assert!(ended, "nothing fails");
        return None;
    }
    let left = left.unwrap_or_else(|| Leavings::of(&story.holders, hit, seed));
    left.restart(&mut story.holders, variant).await;
    for holder in &story.holders {
        holder.recorded.arm(&Trigger::never(), false);
    }
    story.check().await;
    // A drive that did not fall may be in the middle of the first attempt: the second begins it again.
    story.convert().await.expect("a later attempt goes through");
    story.check().await;
    for (index, holder) in story.holders.iter().enumerate() {
        assert_eq!(support::reports(&holder.drive).len(), 1, "the copy is gone, fragment {index} is here");
    }
    Some(left)
}

#[test]
fn no_cut_of_a_conversion_loses_the_slab_or_calls_half_of_it_whole() {
    run(async {
        let (disks, root_crc32c) = prepared().await;
        let mut told = 0u64;
        for seed in seeds() {
            for hit in HITS {
                for at in 0.. {
                    let (place, from) = ((at, hit), (&disks[..], root_crc32c));
                    let Some(mut left) = tell(from, place, (0, seed), None).await else {
                        assert!(at > 30, "the workload has become too small");
                        break;
                    };
                    for variant in 1..left.count() {
                        left = tell(from, place, (variant, seed), Some(left)).await.unwrap();
                    }
                    told += left.count() as u64;
                }
            }
        }
        println!("convert: {told} stories");
        assert!(told > 1000, "the workload has become too small");
    });
}
