//! The promises of the drive in memory: what a flush covered is never lost, what it did not may be, and each
//! fault does what it says.

use super::{Fault, FaultPlan, Intent, Kind, MemoryDevice, MemoryMedia};
use crate::buffer::AlignedBuffer;
use crate::device::{Class, Completion, Device, DeviceError, Operation, Pending};
use crate::limits::{MEMORY_CACHE_LEN_BYTES_MAX, OPERATIONS_PER_DEVICE_MAX};
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

const BLOCK: u64 = 4096;

fn filled(byte: u8) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::zeroed(4096);
    buffer.fill(byte);
    buffer
}

fn poll(pending: &mut Pending) -> Poll<Completion> {
    Pin::new(pending).poll(&mut Context::from_waker(Waker::noop()))
}

fn now(mut pending: Pending) -> Completion {
    match poll(&mut pending) {
        Poll::Ready(completion) => completion,
        Poll::Pending => panic!("nothing holds this operation back"),
    }
}

fn write(device: &MemoryDevice, block: u64, byte: u8) -> Pending {
    device.submit(Operation::Write { offset_bytes: block * BLOCK, buffer: filled(byte) }, Class::Append)
}

fn flush(device: &MemoryDevice) -> Pending {
    device.submit(Operation::Flush, Class::Append)
}

fn read(device: &MemoryDevice, block: u64) -> Completion {
    let buffer = AlignedBuffer::zeroed(4096);
    now(device.submit(Operation::Read { offset_bytes: block * BLOCK, buffer }, Class::Scrub))
}

fn read_byte(device: &MemoryDevice, block: u64) -> u8 {
    let completion = read(device, block);
    completion.result.unwrap();
    completion.buffer.unwrap()[0]
}

fn open(media: &Arc<MemoryMedia>) -> MemoryDevice {
    MemoryDevice::open(media).unwrap()
}

/// One fault for operations of one kind.
fn only(kind: Kind, fault: Fault) -> Arc<dyn FaultPlan> {
    Arc::new(move |intent: &Intent| if intent.kind == kind { fault } else { Fault::None })
}

/// Holds every operation back until the gate opens.
struct Gate(Arc<AtomicBool>);

impl FaultPlan for Gate {
    fn fault(&self, _: &Intent) -> Fault {
        Fault::None
    }

    fn before(&self, _: &Intent) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let open = self.0.clone();
        Some(Box::pin(std::future::poll_fn(move |_| {
            if open.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        })))
    }
}

fn gated(media: &MemoryMedia) -> Arc<AtomicBool> {
    let open = Arc::new(AtomicBool::new(false));
    media.set_plan(Arc::new(Gate(open.clone())));
    open
}

/// A step of a random history on eight blocks.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u64, u8),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u64..8, 1u8..=255).prop_map(|(block, byte)| Step::Write(block, byte)),
        1 => proptest::strategy::Just(Step::Flush),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// After a power cut each sector holds the bytes of the last flushed write of its block, or of a later one.
    #[test]
    fn a_sector_is_never_older_than_the_last_flush(steps in steps(), seed in any::<u64>()) {
        let media = MemoryMedia::new(8 * BLOCK);
        let device = open(&media);
        let mut allowed: Vec<Vec<u8>> = vec![vec![0]; 8];
        for step in &steps {
            match *step {
                Step::Write(block, byte) => {
                    now(write(&device, block, byte)).result.unwrap();
                    allowed[block as usize].push(byte);
                    prop_assert_eq!(read_byte(&device, block), byte);
                }
                Step::Flush => {
                    now(flush(&device)).result.unwrap();
                    for bytes in &mut allowed {
                        bytes.drain(..bytes.len() - 1);
                    }
                }
            }
        }
        media.power_cut(seed);
        for (block, allowed) in (0u64..).zip(&allowed) {
            for sector in media.peek(block * BLOCK, 4096).chunks_exact(512) {
                prop_assert!(allowed.contains(&sector[0]), "{} is none of {:?}", sector[0], allowed);
                prop_assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
            }
        }
        prop_assert_eq!(media.unflushed_len_bytes(), 0);
    }

    /// The same seed after the same history leaves the same bytes.
    #[test]
    fn one_seed_one_outcome(steps in steps(), seed in any::<u64>()) {
        let outcome = || {
            let media = MemoryMedia::new(8 * BLOCK);
            let device = open(&media);
            for step in &steps {
                match *step {
                    Step::Write(block, byte) => now(write(&device, block, byte)),
                    Step::Flush => now(flush(&device)),
                }.result.unwrap();
            }
            media.power_cut(seed);
            media.peek(0, 8 * 4096)
        };
        prop_assert_eq!(outcome(), outcome());
    }
}

#[test]
fn unflushed_writes_are_kept_lost_and_torn_by_some_seeds() {
    let (mut kept, mut lost, mut torn) = (false, false, false);
    for seed in 0..200 {
        let media = MemoryMedia::new(BLOCK);
        now(write(&open(&media), 0, 7)).result.unwrap();
        media.power_cut(seed);
        match media.peek(0, 4096).iter().filter(|byte| **byte == 7).count() {
            4096 => kept = true,
            0 => lost = true,
            _ => torn = true,
        }
    }
    assert!(kept && lost && torn);
}

#[test]
fn a_flush_covers_what_completed_before_it_was_submitted() {
    let mut lost = false;
    for seed in 0..100 {
        let media = MemoryMedia::new(2 * BLOCK);
        let device = open(&media);
        now(write(&device, 0, 1)).result.unwrap();
        let gate = gated(&media);
        let flush = flush(&device);
        let second = write(&device, 1, 2);
        gate.store(true, Ordering::Relaxed);
        now(second).result.unwrap();
        now(flush).result.unwrap();
        media.power_cut(seed);
        assert_eq!(media.peek(0, 4096), [1; 4096]);
        lost |= media.peek(BLOCK, 4096) != [2; 4096];
    }
    assert!(lost, "the second write completed after the flush was submitted");
}

#[test]
fn handles_of_an_ended_process_are_closed_and_the_bytes_stay() {
    let media = MemoryMedia::new(4 * BLOCK);
    let before = open(&media);
    now(write(&before, 2, 9)).result.unwrap();
    assert!(MemoryDevice::open(&media).is_err(), "open twice");
    media.disconnect(1);
    let after = open(&media);
    let refused = now(write(&before, 2, 1));
    assert!(matches!(refused.result, Err(DeviceError::Closed)));
    assert!(refused.buffer.is_some());
    assert_eq!(read_byte(&after, 2), 9, "a killed process loses no completed write");
    drop(before);
    assert!(MemoryDevice::open(&media).is_err(), "an old handle does not unlock the drive");
    drop(after);
    assert!(MemoryDevice::open(&media).is_ok());
}

#[test]
fn what_is_in_flight_at_the_end_may_be_done_or_not() {
    for cut in [MemoryMedia::power_cut, MemoryMedia::disconnect] {
        let (mut done, mut undone) = (false, false);
        for seed in 0..100 {
            let media = MemoryMedia::new(BLOCK);
            let device = open(&media);
            let gate = gated(&media);
            let mut pending = write(&device, 0, 5);
            assert!(poll(&mut pending).is_pending());
            assert_eq!(media.peek(0, 4096), [0; 4096]);
            cut(&media, seed);
            let outcome = media.peek(0, 4096);
            done |= outcome == [5; 4096];
            undone |= outcome == [0; 4096];
            gate.store(true, Ordering::Relaxed);
            assert!(matches!(now(pending).result, Err(DeviceError::Closed)));
            assert_eq!(media.peek(0, 4096), outcome, "nothing happens after the end");
        }
        assert!(done && undone);
    }
}

#[test]
fn a_dropped_pending_is_done_nevertheless() {
    let media = MemoryMedia::new(BLOCK);
    let device = open(&media);
    let _gate = gated(&media);
    drop(write(&device, 0, 5));
    assert_eq!(media.peek(0, 4096), [5; 4096]);
}

#[test]
fn closing_does_what_is_in_flight() {
    let media = MemoryMedia::new(BLOCK);
    let device = open(&media);
    let gate = gated(&media);
    let pending = write(&device, 0, 5);
    drop(device.close());
    assert_eq!(media.peek(0, 4096), [5; 4096]);
    gate.store(true, Ordering::Relaxed);
    let completion = now(pending);
    completion.result.unwrap();
    assert!(completion.buffer.is_some());
    assert!(MemoryDevice::open(&media).is_ok());
}

#[test]
fn each_fault_does_what_it_says() {
    let media = MemoryMedia::new(4 * BLOCK);
    let device = open(&media);
    now(write(&device, 0, 1)).result.unwrap();
    now(flush(&device)).result.unwrap();

    media.set_plan(only(Kind::Write, Fault::Error));
    let failed = now(write(&device, 0, 2));
    assert!(
        matches!(failed.result, Err(DeviceError::Io { ref source, .. }) if source.raw_os_error() == Some(libc::EIO))
    );
    assert!(failed.buffer.is_some());
    assert_eq!(read_byte(&device, 0), 1);

    media.set_plan(only(Kind::Write, Fault::ErrorAfter));
    assert!(now(write(&device, 0, 3)).result.is_err());
    assert_eq!(read_byte(&device, 0), 3);

    media.set_plan(only(Kind::Write, Fault::LostWrite));
    now(write(&device, 0, 4)).result.unwrap();
    assert_eq!(read_byte(&device, 0), 3);

    media.set_plan(only(Kind::Write, Fault::Misdirected { offset_bytes: u64::MAX }));
    now(write(&device, 0, 5)).result.unwrap();
    assert_eq!((read_byte(&device, 0), read_byte(&device, 3)), (3, 5));

    media.set_plan(only(Kind::Read, Fault::Misdirected { offset_bytes: 3 * BLOCK + 100 }));
    assert_eq!(read_byte(&device, 0), 5);

    media.set_plan(only(Kind::Read, Fault::Error));
    let failed = read(&device, 0);
    assert!(failed.result.is_err() && failed.buffer.is_some());

    media.set_plan(only(Kind::Read, Fault::BitRot { offset_bytes: 0, mask: 0x80 }));
    assert_eq!(read_byte(&device, 0), 3 | 0x80);
    media.set_plan(Arc::new(super::NoFaults));
    assert_eq!(read_byte(&device, 0), 3 | 0x80, "rot stays");

    media.erase();
    assert_eq!((read_byte(&device, 0), read_byte(&device, 3)), (0, 0));
}

#[test]
fn a_short_write_leaves_its_beginning_and_says_so() {
    let media = MemoryMedia::new(4 * BLOCK);
    let device = open(&media);
    media.set_plan(only(Kind::Write, Fault::Short { done_blocks: 1 }));
    let mut buffer = AlignedBuffer::zeroed(2 * 4096);
    buffer.fill(7);
    let completion = now(device.submit(Operation::Write { offset_bytes: BLOCK, buffer }, Class::Append));
    assert!(matches!(completion.result, Err(DeviceError::Short { done_bytes: 4096, .. })));
    assert_eq!((read_byte(&device, 1), read_byte(&device, 2)), (7, 0));
    // Never all of it, and nothing where there is no part.
    media.set_plan(only(Kind::Write, Fault::Short { done_blocks: 9 }));
    let completion = now(write(&device, 3, 7));
    assert!(matches!(completion.result, Err(DeviceError::Short { done_bytes: 0, .. })));
    assert_eq!(read_byte(&device, 3), 0);
    media.set_plan(only(Kind::Flush, Fault::Short { done_blocks: 1 }));
    now(flush(&device)).result.unwrap();
}

#[test]
fn a_drive_comes_back_as_it_was() {
    let media = MemoryMedia::new(4 * BLOCK);
    let device = open(&media);
    now(write(&device, 0, 1)).result.unwrap();
    now(flush(&device)).result.unwrap();
    now(write(&device, 1, 2)).result.unwrap();
    let image = media.image();
    for block in 0..4 {
        now(write(&device, block, 9)).result.unwrap();
    }
    now(flush(&device)).result.unwrap();
    media.restore(&image);
    let bytes = || (0..4).map(|block| read_byte(&device, block)).collect::<Vec<_>>();
    assert_eq!(bytes(), [1, 2, 0, 0]);
    // Writes go on as on any drive, and the image is not touched by them.
    now(write(&device, 0, 3)).result.unwrap();
    now(flush(&device)).result.unwrap();
    media.power_cut(0);
    assert_eq!(media.peek(0, 4096)[0], 3);
    media.restore(&image);
    assert_eq!(media.peek(0, 4096)[0], 1);
}

#[test]
fn writes_tear_at_the_sectors_of_the_drive() {
    let torn_inside_a_block = |sector_len_bytes| {
        (0..200).any(|seed| {
            let media = MemoryMedia::new(BLOCK);
            media.set_sector_len_bytes(sector_len_bytes);
            let device = open(&media);
            now(write(&device, 0, 1)).result.unwrap();
            media.power_cut(seed);
            let bytes = media.peek(0, 4096);
            assert!(
                bytes.chunks(sector_len_bytes).all(|sector| sector.iter().all(|byte| *byte == sector[0]))
            );
            bytes.iter().any(|byte| *byte != bytes[0])
        })
    };
    assert!(torn_inside_a_block(512));
    assert!(!torn_inside_a_block(4096));
}

/// Whether some seed loses the write that this history flushes.
fn some_seed_loses(history: impl Fn(&MemoryMedia, &MemoryDevice)) -> bool {
    (0..100).any(|seed| {
        let media = MemoryMedia::new(BLOCK);
        let device = open(&media);
        now(write(&device, 0, 1)).result.unwrap();
        history(&media, &device);
        media.power_cut(seed);
        media.peek(0, 4096) != [1; 4096]
    })
}

#[test]
fn a_lying_flush_makes_nothing_durable_and_an_honest_one_after_it_does() {
    let lie = |media: &MemoryMedia, device: &MemoryDevice| {
        media.set_plan(only(Kind::Flush, Fault::LyingFlush));
        now(flush(device)).result.unwrap();
    };
    assert!(some_seed_loses(lie));
    assert!(!some_seed_loses(|media, device| {
        lie(media, device);
        media.set_plan(Arc::new(super::NoFaults));
        now(flush(device)).result.unwrap();
    }));
}

#[test]
fn a_failed_flush_is_not_made_good_by_the_next() {
    let fail_then_flush = |media: &MemoryMedia, device: &MemoryDevice| {
        media.set_plan(only(Kind::Flush, Fault::Error));
        assert!(now(flush(device)).result.is_err());
        media.set_plan(Arc::new(super::NoFaults));
        now(flush(device)).result.unwrap();
        assert_eq!(read_byte(device, 0), 1, "and nobody can see it");
    };
    assert!(some_seed_loses(fail_then_flush));
    // Written again and flushed again it is safe, and the old write does not come out on top.
    for seed in 0..100 {
        let media = MemoryMedia::new(BLOCK);
        let device = open(&media);
        now(write(&device, 0, 1)).result.unwrap();
        fail_then_flush(&media, &device);
        now(write(&device, 0, 2)).result.unwrap();
        now(flush(&device)).result.unwrap();
        media.power_cut(seed);
        assert_eq!(media.peek(0, 4096), [2; 4096]);
    }
}

#[test]
fn a_plan_may_cut_the_power_itself() {
    let media = MemoryMedia::new(BLOCK);
    let device = open(&media);
    let target = Arc::downgrade(&media);
    media.set_plan(Arc::new(move |intent: &Intent| {
        if intent.number == 1 {
            target.upgrade().unwrap().power_cut(3);
        }
        Fault::None
    }));
    now(write(&device, 0, 1)).result.unwrap();
    assert!(matches!(now(write(&device, 0, 2)).result, Err(DeviceError::Closed)));
    assert!(media.peek(0, 4096).iter().all(|byte| *byte != 2));
}

#[test]
fn operations_in_flight_are_bounded() {
    let media = MemoryMedia::new(BLOCK);
    let device = open(&media);
    let gate = gated(&media);
    let mut pendings: Vec<_> = (0..OPERATIONS_PER_DEVICE_MAX).map(|_| write(&device, 0, 1)).collect();
    let refused = now(write(&device, 0, 1));
    assert!(matches!(refused.result, Err(DeviceError::Busy { in_flight_max: OPERATIONS_PER_DEVICE_MAX })));
    gate.store(true, Ordering::Relaxed);
    now(pendings.pop().unwrap()).result.unwrap();
    assert!(now(write(&device, 0, 1)).result.is_ok());
}

#[test]
fn the_cache_is_bounded_and_its_oldest_writes_reach_the_media() {
    let blocks = MEMORY_CACHE_LEN_BYTES_MAX as u64 / BLOCK;
    let media = MemoryMedia::new((blocks + 1) * BLOCK);
    let device = open(&media);
    for block in 0..=blocks {
        now(write(&device, block, 1)).result.unwrap();
    }
    assert_eq!(media.unflushed_len_bytes(), MEMORY_CACHE_LEN_BYTES_MAX);
    assert_eq!(read_byte(&device, 0), 1);
    for seed in 0..4 {
        media.power_cut(seed);
        assert_eq!(media.peek(0, 4096), [1; 4096]);
    }
}

#[test]
fn a_large_drive_costs_what_is_written() {
    let media = MemoryMedia::new(1 << 60);
    let device = open(&media);
    let last = (1 << 60) / BLOCK - 1;
    now(write(&device, last, 8)).result.unwrap();
    now(flush(&device)).result.unwrap();
    assert_eq!(read_byte(&device, last), 8);
    assert_eq!(read_byte(&device, last / 2), 0);
    let all = Operation::Discard { offset_bytes: 0, len_bytes: 1 << 60 };
    now(device.submit(all, Class::Convert)).result.unwrap();
}

#[test]
fn discarded_blocks_may_or_may_not_keep_their_bytes() {
    let media = MemoryMedia::new(64 * BLOCK);
    let device = open(&media);
    for block in 0..64 {
        now(write(&device, block, 1)).result.unwrap();
    }
    now(flush(&device)).result.unwrap();
    let half = Operation::Discard { offset_bytes: 0, len_bytes: 32 * BLOCK };
    now(device.submit(half, Class::Convert)).result.unwrap();
    let kept = (0..32).filter(|block| read_byte(&device, *block) == 1).count();
    assert!(0 < kept && kept < 32);
    assert!((32..64).all(|block| read_byte(&device, block) == 1), "outside of the range nothing changes");
}
