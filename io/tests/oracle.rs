//! The backends against each other: any sequence of operations gives the same bytes and results on the ring, on
//! threads and in memory.
//!
//! Not checked: what is read from a discarded range (it is undefined, so none is read), and speed.

use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::strategy::Just;
use proptest::test_runner::{Config, TestRunner};
use std::path::Path;
use std::sync::Arc;
use strongroom_io::blocking::BlockingDevice;
use strongroom_io::buffer::{Pool, SizeClass};
use strongroom_io::memory::{MemoryDevice, MemoryMedia};
use strongroom_io::uring::Driver;
use strongroom_io::{
    AlignedBuffer, Backend, Class, Device, DeviceError, Direct, Drive, OpenError, OpenMode, Operation,
    open_drive,
};

const BLOCK: usize = 4096;
const BLOCKS: usize = 64;

/// One operation, on blocks.
#[derive(Clone, Debug)]
enum Step {
    Read {
        block: usize,
        count: usize,
    },
    Write {
        block: usize,
        count: usize,
        seed: u8,
    },
    Flush,
    /// Not whole blocks within the device.
    OutOfShape {
        offset_bytes: u64,
        count: usize,
    },
}

/// Operations that are in flight together; their ranges do not overlap.
type Round = Vec<Step>;

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let step = |first: usize, blocks: usize| {
        let range = (0..blocks).prop_flat_map(move |skip| (Just(first + skip), 1..=blocks - skip));
        let class = range.clone();
        prop_oneof![
            4 => (range, any::<u8>()).prop_map(|((block, count), seed)| Step::Write { block, count, seed }),
            4 => class.prop_map(|(block, count)| Step::Read { block, count }),
            1 => Just(Step::Flush),
            1 => (any::<u64>(), 0usize..3).prop_map(|(offset, count)| Step::OutOfShape { offset_bytes: offset | 1, count }),
            1 => (0usize..4).prop_map(|over| Step::OutOfShape {
                offset_bytes: ((BLOCKS - over) * BLOCK) as u64,
                count: over + 1,
            }),
        ]
    };
    // One step anywhere, or one in each eighth of the device at once.
    let serial = step(0, BLOCKS).prop_map(|step| vec![step]);
    let concurrent: Vec<_> = (0..8).map(|part| step(part * BLOCKS / 8, BLOCKS / 8)).collect();
    proptest::collection::vec(prop_oneof![serial, concurrent], 1..24)
}

fn bytes_of(block: usize, seed: u8) -> impl Iterator<Item = u8> {
    (0..BLOCK).map(move |at| seed.wrapping_mul(31) ^ (block as u8).wrapping_mul(7) ^ (at / 512) as u8)
}

fn operation(step: &Step, take: &dyn Fn(usize) -> AlignedBuffer) -> Operation {
    match step {
        Step::Read { block, count } => {
            Operation::Read { offset_bytes: (block * BLOCK) as u64, buffer: take(count * BLOCK) }
        }
        Step::Write { block, count, seed } => {
            let mut buffer = take(count * BLOCK);
            for (index, piece) in buffer.chunks_exact_mut(BLOCK).enumerate() {
                for (byte, value) in piece.iter_mut().zip(bytes_of(block + index, *seed)) {
                    *byte = value;
                }
            }
            Operation::Write { offset_bytes: (block * BLOCK) as u64, buffer }
        }
        Step::Flush => Operation::Flush,
        Step::OutOfShape { offset_bytes, count } => {
            Operation::Read { offset_bytes: *offset_bytes, buffer: take(count * BLOCK) }
        }
    }
}

/// What a caller saw: whether it was refused, and the bytes of its buffer.
type Seen = (bool, Option<Vec<u8>>);

async fn play(device: &dyn Device, rounds: &[Round], take: &dyn Fn(usize) -> AlignedBuffer) -> Vec<Seen> {
    let classes = [Class::ForegroundRead, Class::Append, Class::Repair, Class::Convert, Class::Scrub];
    let mut seen = Vec::new();
    for round in rounds {
        let pendings: Vec<_> = round
            .iter()
            .zip(classes.iter().cycle())
            .map(|(step, class)| device.submit(operation(step, take), *class))
            .collect();
        for (pending, step) in pendings.into_iter().zip(round) {
            let completion = pending.await;
            let refused = match (completion.result, step) {
                (Ok(()), _) => false,
                (Err(DeviceError::OutOfShape { .. }), Step::OutOfShape { .. }) => true,
                (Err(error), _) => panic!("{step:?}: {error:?}"),
            };
            let bytes = completion.buffer.filter(|_| !refused).map(|buffer| buffer.to_vec());
            seen.push((refused, bytes));
        }
    }
    seen
}

/// What the caller has to see, by the plainest means.
fn expected(rounds: &[Round]) -> (Vec<Seen>, Vec<u8>) {
    let mut device = vec![0; BLOCKS * BLOCK];
    let mut seen = Vec::new();
    for step in rounds.iter().flatten() {
        seen.push(match step {
            Step::Read { block, count } => {
                (false, Some(device[block * BLOCK..(block + count) * BLOCK].to_vec()))
            }
            Step::Write { block, count, seed } => {
                let bytes: Vec<u8> = (0..*count).flat_map(|index| bytes_of(block + index, *seed)).collect();
                device[block * BLOCK..(block + count) * BLOCK].copy_from_slice(&bytes);
                (false, Some(bytes))
            }
            Step::Flush => (false, None),
            Step::OutOfShape { .. } => (true, None),
        });
    }
    (seen, device)
}

fn drive(path: &Path) -> Drive {
    let create_len_bytes = Some((BLOCKS * BLOCK) as u64);
    let mode = OpenMode { create_len_bytes, direct: Direct::IfPossible, ..OpenMode::default() };
    open_drive(path, mode).expect("the drive is free, and the folder is writable")
}

/// A backend to compare: its name, its device, and where its buffers come from.
type Contender<'a> = (&'a str, Arc<dyn Device>, &'a dyn Fn(usize) -> AlignedBuffer);

#[test]
fn all_backends_agree() {
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let heap: &dyn Fn(usize) -> AlignedBuffer = &AlignedBuffer::zeroed;
    runner
        .run(&rounds(), |rounds| {
            let (expected_seen, expected_bytes) = expected(&rounds);
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            tokio_uring::start(async {
                let driver = Driver::start().unwrap();
                let pool = Pool::new(&[
                    SizeClass { len_bytes: 8 * BLOCK, count: 8 },
                    SizeClass { len_bytes: BLOCKS * BLOCK, count: 8 },
                ])
                .unwrap();
                driver.register(&pool).await.unwrap();
                let leased = |len_bytes: usize| pool.take_zeroed(len_bytes).unwrap();

                let media = MemoryMedia::new((BLOCKS * BLOCK) as u64);
                let devices: [Contender<'_>; 5] = [
                    ("memory", Arc::new(MemoryDevice::open(&media).unwrap()), heap),
                    ("blocking", Arc::new(BlockingDevice::start(drive(&at("blocking"))).unwrap()), heap),
                    ("uring", Arc::new(driver.attach(drive(&at("uring"))).await.unwrap()), heap),
                    ("registered", Arc::new(driver.attach(drive(&at("registered"))).await.unwrap()), &leased),
                    ("chosen", Backend::choose().attach(drive(&at("chosen"))).await.unwrap(), heap),
                ];
                for (name, device, take) in &devices {
                    let seen = play(device.as_ref(), &rounds, take).await;
                    assert!(seen == expected_seen, "{name} differs");
                    device.close().await;
                    if *name != "memory" {
                        assert!(
                            std::fs::read(at(name)).unwrap() == expected_bytes,
                            "{name} left other bytes"
                        );
                        drop(drive(&at(name)));
                    }
                }
                assert!(media.peek(0, BLOCKS * BLOCK) == expected_bytes, "memory left other bytes");
                driver.shutdown().await;
            });
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_drive_in_use_is_refused_whatever_the_backend() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    let again =
        || open_drive(&path, OpenMode { direct: Direct::IfPossible, ..OpenMode::default() }).map(drop);
    tokio_uring::start(async {
        let driver = Driver::start().unwrap();
        let device = driver.attach(drive(&path)).await.unwrap();
        assert!(matches!(again(), Err(OpenError::Locked { .. })));
        device.close().await;
        again().unwrap();
        let device = BlockingDevice::start(drive(&path)).unwrap();
        assert!(matches!(again(), Err(OpenError::Locked { .. })));
        device.close().await;
        again().unwrap();
        device.close().await;
        let refused = device.submit(Operation::Flush, Class::Append).await;
        assert!(matches!(refused.result, Err(DeviceError::Closed)));
    });
}

#[test]
fn blocking_does_what_is_queued_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    tokio_uring::start(async {
        let device = BlockingDevice::start(drive(&path)).unwrap();
        for block in 0..BLOCKS {
            let mut buffer = AlignedBuffer::zeroed(BLOCK);
            buffer.fill(block as u8 + 1);
            let offset_bytes = (block * BLOCK) as u64;
            drop(device.submit(Operation::Write { offset_bytes, buffer }, Class::Append));
        }
        let closing = device.close();
        drop(device);
        closing.await;
    });
    let bytes = std::fs::read(&path).unwrap();
    for (index, block) in bytes.chunks_exact(BLOCK).enumerate() {
        assert!(block.iter().all(|byte| usize::from(*byte) == index + 1), "block {index}");
    }
}
