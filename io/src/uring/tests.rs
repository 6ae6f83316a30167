//! The ring's own promises: the driver drains, drives are given up, bounds hold, and dropped callers change
//! nothing.
//!
//! Each test needs io_uring, as does the backend; where it is forbidden they fail rather than pass unseen.

use super::{Driver, Registration, UringDevice, UringError};
use crate::buffer::{AlignedBuffer, Pool, SizeClass};
use crate::device::{Class, Device, DeviceError, Operation};
use crate::limits::{DEVICES_PER_DRIVER_MAX, OPERATIONS_PER_DEVICE_MAX, OPERATIONS_PER_RING_MAX};
use crate::open::{Direct, Drive, OpenMode, open_drive};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const BLOCK: usize = 4096;
const BLOCKS: usize = 512;

struct Place {
    _folder: TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    Place { _folder: folder, path }
}

fn drive(path: &Path) -> Drive {
    let create_len_bytes = Some((BLOCKS * BLOCK) as u64);
    open_drive(path, OpenMode { create_len_bytes, direct: Direct::IfPossible, ..OpenMode::default() })
        .unwrap()
}

fn write(block: usize, len_blocks: usize, byte: u8) -> Operation {
    let mut buffer = AlignedBuffer::zeroed(len_blocks * BLOCK);
    buffer.fill(byte);
    Operation::Write { offset_bytes: (block * BLOCK) as u64, buffer }
}

async fn started(path: &Path) -> (Driver, UringDevice) {
    let driver = Driver::start().unwrap();
    let device = driver.attach(drive(path)).await.unwrap();
    (driver, device)
}

#[test]
fn dropped_callers_change_nothing_and_shutdown_drains() {
    let place = place();
    tokio_uring::start(async {
        let (driver, device) = started(&place.path).await;
        for block in 0..OPERATIONS_PER_DEVICE_MAX {
            drop(device.submit(write(block * 2, 2, (block % 251) as u8), Class::Append));
        }
        driver.shutdown().await;
        // The drive was given up before that.
        let bytes = std::fs::read(&place.path).unwrap();
        for (index, block) in bytes.chunks_exact(2 * BLOCK).enumerate() {
            assert!(block.iter().all(|byte| usize::from(*byte) == index % 251), "block {index}");
        }
        drop(drive(&place.path));
        let refused = device.submit(write(0, 1, 1), Class::Append).await;
        assert!(matches!(refused.result, Err(DeviceError::Closed)));
        assert!(refused.buffer.is_some());
        device.close().await;
    });
}

#[test]
fn a_runtime_that_ends_under_load_waits_for_the_kernel() {
    for round in 0..10u8 {
        let place = place();
        let pool =
            Pool::new(&[SizeClass { len_bytes: 2 * BLOCK, count: OPERATIONS_PER_DEVICE_MAX }]).unwrap();
        let mut kept = Vec::new();
        tokio_uring::start(async {
            let (driver, device) = started(&place.path).await;
            driver.register(&pool).await.unwrap();
            for block in 0..OPERATIONS_PER_DEVICE_MAX {
                let mut buffer = pool.take(2 * BLOCK).unwrap();
                buffer.fill(round + 1);
                let offset_bytes = (block * 2 * BLOCK) as u64;
                let pending = device.submit(Operation::Write { offset_bytes, buffer }, Class::Append);
                // Every other caller goes away at once; the rest outlives the runtime.
                if block % 2 == 0 {
                    kept.push(pending);
                }
                if block == OPERATIONS_PER_DEVICE_MAX / 2 {
                    // The driver hands these over; the rest is still queued when the runtime ends.
                    tokio::task::yield_now().await;
                }
            }
        });
        // Each buffer is either back in the pool, or in a completion that nobody took yet: none is with the
        // kernel.
        let mut done = 0;
        tokio_uring::start(async {
            for pending in kept {
                let completion = pending.await;
                match completion.result {
                    Ok(()) => done += 1,
                    Err(error) => assert!(matches!(error, DeviceError::Closed), "{error}"),
                }
                assert!(completion.buffer.is_some(), "a drained operation gives its buffer back");
            }
        });
        assert_eq!(pool.available(2 * BLOCK), OPERATIONS_PER_DEVICE_MAX);
        let bytes = std::fs::read(&place.path).unwrap();
        let written = bytes
            .chunks_exact(4 * BLOCK)
            .filter(|pair| pair[..2 * BLOCK].iter().all(|byte| *byte == round + 1));
        assert!(written.count() >= done, "what was reported is there");
        drop(drive(&place.path));
    }
}

#[test]
fn operations_are_bounded_per_device() {
    let place = place();
    tokio_uring::start(async {
        let (driver, device) = started(&place.path).await;
        // The driver runs on this thread, so nothing completes before the first await.
        let mut pendings: Vec<_> = (0..OPERATIONS_PER_DEVICE_MAX)
            .map(|block| device.submit(write(block, 1, 1), Class::Append))
            .collect();
        let refused = device.submit(write(0, 1, 1), Class::Append).await;
        assert!(matches!(refused.result, Err(DeviceError::Busy { .. })));
        assert!(refused.buffer.is_some());
        for pending in pendings.drain(..) {
            pending.await.result.unwrap();
        }
        device.submit(write(0, 1, 1), Class::Append).await.result.unwrap();
        driver.shutdown().await;
    });
}

#[test]
fn drives_share_a_driver_up_to_its_bound_and_places_are_used_again() {
    let places: Vec<Place> = (0..=DEVICES_PER_DRIVER_MAX).map(|_| place()).collect();
    tokio_uring::start(async {
        let driver = Driver::start().unwrap();
        let mut devices = Vec::new();
        for place in &places[..DEVICES_PER_DRIVER_MAX] {
            devices.push(driver.attach(drive(&place.path)).await.unwrap());
        }
        let last = &places[DEVICES_PER_DRIVER_MAX].path;
        assert!(matches!(driver.attach(drive(last)).await, Err(UringError::Devices)));
        for (byte, device) in (1u8..).zip(&devices) {
            device.submit(write(3, 1, byte), Class::Append).await.result.unwrap();
        }
        devices[7].close().await;
        drop(drive(&places[7].path));
        devices[7].close().await;
        let late = driver.attach(drive(last)).await.unwrap();
        late.submit(write(3, 1, 99), Class::Append).await.result.unwrap();
        let closed = devices[7].submit(write(3, 1, 98), Class::Append).await;
        assert!(matches!(closed.result, Err(DeviceError::Closed)));
        driver.shutdown().await;
        for (byte, place) in (1u8..).zip(&places[..DEVICES_PER_DRIVER_MAX]) {
            assert_eq!(std::fs::read(&place.path).unwrap()[3 * BLOCK], byte);
        }
        assert_eq!(std::fs::read(last).unwrap()[3 * BLOCK], 99);
    });
}

#[test]
fn more_than_the_ring_holds_waits_in_the_driver() {
    let count = OPERATIONS_PER_RING_MAX / OPERATIONS_PER_DEVICE_MAX + 2;
    let places: Vec<Place> = (0..count).map(|_| place()).collect();
    tokio_uring::start(async {
        let driver = Driver::start().unwrap();
        let mut devices = Vec::new();
        for place in &places {
            devices.push(driver.attach(drive(&place.path)).await.unwrap());
        }
        for (byte, device) in (1u8..).zip(&devices) {
            for block in 0..OPERATIONS_PER_DEVICE_MAX {
                drop(device.submit(write(block, 1, byte), Class::Append));
            }
        }
        driver.shutdown().await;
    });
    for (byte, place) in (1u8..).zip(&places) {
        let bytes = std::fs::read(&place.path).unwrap();
        assert!(bytes[..OPERATIONS_PER_DEVICE_MAX * BLOCK].iter().all(|found| *found == byte));
    }
}

#[test]
fn closing_waits_for_what_is_in_flight() {
    let place = place();
    tokio_uring::start(async {
        let (driver, device) = started(&place.path).await;
        let pendings: Vec<_> =
            (0..100).map(|block| device.submit(write(block, 1, 6), Class::Repair)).collect();
        device.close().await;
        assert!(std::fs::read(&place.path).unwrap()[..100 * BLOCK].iter().all(|byte| *byte == 6));
        for pending in pendings {
            pending.await.result.unwrap();
        }
        drop(driver);
    });
}

#[test]
fn buffers_of_a_registered_pool_carry_the_right_bytes() {
    let place = place();
    let classes = [SizeClass { len_bytes: BLOCK, count: 8 }, SizeClass { len_bytes: 8 * BLOCK, count: 8 }];
    let pools = [Pool::new(&classes).unwrap(), Pool::new(&classes).unwrap()];
    tokio_uring::start(async {
        let (driver, device) = started(&place.path).await;
        for pool in &pools {
            // 576 KiB in all: within what is locked by default.
            assert!(matches!(driver.register(pool).await.unwrap(), Registration::Registered));
            assert!(matches!(driver.register(pool).await.unwrap(), Registration::Registered));
        }
        for (round, pool) in (0usize..).zip(&pools) {
            for (index, class) in (0usize..).zip(&classes) {
                let byte = (round * 2 + index + 1) as u8;
                let offset_bytes = ((round * 2 + index) * 16 * BLOCK) as u64;
                let mut buffer = pool.take(class.len_bytes).unwrap();
                buffer.fill(byte);
                let written = device.submit(Operation::Write { offset_bytes, buffer }, Class::Append).await;
                written.result.unwrap();
                let mut buffer = written.buffer.unwrap();
                buffer.fill(0);
                let read = device.submit(Operation::Read { offset_bytes, buffer }, Class::Scrub).await;
                read.result.unwrap();
                assert!(read.buffer.unwrap().into_bytes().iter().all(|found| *found == byte));
            }
        }
        driver.shutdown().await;
    });
}

#[test]
fn operations_from_other_threads_arrive() {
    let place = place();
    tokio_uring::start(async {
        let (driver, device) = started(&place.path).await;
        let device = std::sync::Arc::new(device);
        let threads: Vec<_> = (0..4usize)
            .map(|thread| {
                let device = device.clone();
                tokio::task::spawn_blocking(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        for round in 0..50 {
                            let block = thread * 50 + round;
                            let written = device.submit(write(block, 1, block as u8), Class::Append).await;
                            written.result.unwrap();
                        }
                        device.submit(Operation::Flush, Class::Append).await.result.unwrap();
                    });
                })
            })
            .collect();
        for thread in threads {
            thread.await.unwrap();
        }
        driver.shutdown().await;
    });
    let bytes = std::fs::read(&place.path).unwrap();
    for (index, block) in bytes.chunks_exact(BLOCK).take(200).enumerate() {
        assert!(block.iter().all(|byte| *byte == index as u8), "block {index}");
    }
}

#[test]
fn the_driver_ends_with_its_last_handle() {
    let place = place();
    tokio_uring::start(async {
        let (driver, device) = started(&place.path).await;
        drop(driver);
        device.submit(write(0, 1, 3), Class::Append).await.result.unwrap();
        let closing = device.close();
        drop(device);
        closing.await;
        drop(drive(&place.path));
    });
}
