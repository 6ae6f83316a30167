//! Raising the incarnation: beside rows, without a place on the device, failed half way, over copies that differ, are old, or cannot be read.

use super::support::{BLOCK, World, Writer, run};
use crate::drive::standing::Standing;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_format::superblock::{self, Layout};
use strongroom_format::wire::message::Refusal;
use strongroom_io::memory::{Fault, FaultPlan, Intent, Kind, NoFaults};
use strongroom_io::{AlignedBuffer, Class, Device, Operation, Pending};

/// Changes to the device: each copy is written and flushed.
const CHANGES: u64 = 2 * superblock::COPIES as u64;

/// What goes wrong with a raise.
struct Plan {
    /// Changes so far.
    count: AtomicU64,
    /// The change that has the fault.
    at: u64,
    fault: Fault,
    /// The copy that was written last until then.
    last: AtomicU64,
    /// What cannot be read.
    unreadable: Option<u64>,
}

impl Plan {
    fn new(at: u64, fault: Fault, unreadable: Option<u64>) -> Arc<Self> {
        Arc::new(Self { count: AtomicU64::new(0), at, fault, last: AtomicU64::new(u64::MAX), unreadable })
    }
}

impl FaultPlan for Plan {
    fn fault(&self, intent: &Intent) -> Fault {
        match intent.kind {
            Kind::Read if self.unreadable == Some(intent.offset_bytes) => return Fault::Error,
            Kind::Read | Kind::Discard => return Fault::None,
            Kind::Write | Kind::Flush => {}
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        if intent.kind == Kind::Write && number <= self.at {
            self.last.store(intent.offset_bytes, Ordering::Relaxed);
        }
        if number == self.at { self.fault } else { Fault::None }
    }
}

fn copies(world: &World) -> [u64; superblock::COPIES] {
    Layout::superblock_offsets_bytes(world.media.len_bytes()).unwrap()
}

async fn in_use() -> (World, Writer) {
    let world = World::new(8).await;
    let mut writer = Writer::new(1);
    writer.rows(&world.drive, &[5]).await;
    (world, writer)
}

async fn open_again(world: World, plan: Arc<dyn FaultPlan>) -> World {
    let media = world.media.clone();
    media.disconnect(1);
    drop(world);
    media.set_plan(plan);
    World::open(media).await.unwrap()
}

/// The first flush waits until it is let go, the second fails.
#[derive(Default)]
struct Gate {
    flushes: AtomicU64,
    open: Arc<AtomicBool>,
}

impl FaultPlan for Gate {
    fn fault(&self, intent: &Intent) -> Fault {
        let second = intent.kind == Kind::Flush && self.flushes.fetch_add(1, Ordering::Relaxed) == 1;
        if second { Fault::Error } else { Fault::None }
    }

    fn before(&self, intent: &Intent) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let first = intent.kind == Kind::Flush && self.flushes.load(Ordering::Relaxed) == 1;
        let open = self.open.clone();
        first.then(|| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                while !open.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
            })
        })
    }
}

async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_raise_whose_flush_fails_takes_no_row_with_it_that_is_told_durable() {
    run(async {
        for seed in 0..16 {
            let (world, mut writer) = in_use().await;
            let gate = Arc::new(Gate::default());
            world.media.set_plan(gate.clone());
            let raised = async {
                // The row is written, and its flush under way.
                while gate.flushes.load(Ordering::Relaxed) == 0 {
                    tokio::task::yield_now().await;
                }
                let let_go = async {
                    turns(200).await;
                    gate.open.store(true, Ordering::Relaxed);
                };
                futures::join!(world.drive.raise_incarnation(), let_go).0
            };
            let (appended, raised) = futures::join!(writer.append(&world.drive, 2), raised);
            assert_eq!((appended, raised), (Ok(()), Err(Refusal::DriveError)));
            world.media.power_cut(seed);
            let world = world.restart().await;
            writer.check(&world.drive).await;
        }
    });
}

/// Fills the device with reads that do not end, at the first write.
struct Crowd {
    device: Arc<dyn Device>,
    held: Mutex<Option<Vec<Pending>>>,
}

impl FaultPlan for Crowd {
    fn fault(&self, intent: &Intent) -> Fault {
        if intent.kind == Kind::Write && self.held.lock().unwrap().is_none() {
            let read = |_| {
                let buffer = AlignedBuffer::zeroed(BLOCK as usize);
                self.device.submit(Operation::Read { offset_bytes: 0, buffer }, Class::Scrub)
            };
            let reads = (0..strongroom_io::limits::OPERATIONS_PER_DEVICE_MAX).map(read).collect();
            *self.held.lock().unwrap() = Some(reads);
        }
        Fault::None
    }

    fn before(&self, intent: &Intent) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        (intent.class == Class::Scrub)
            .then(|| -> Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(std::future::pending()) })
    }
}

#[test]
fn a_raise_waits_for_its_place_on_the_device() {
    run(async {
        let (world, _) = in_use().await;
        let told = world.drive.incarnation();
        let crowd = Arc::new(Crowd { device: world.drive.shared.device.clone(), held: Mutex::new(None) });
        world.media.set_plan(crowd.clone());
        let later = async {
            turns(100).await;
            let held = crowd.held.lock().unwrap().as_mut().map(std::mem::take);
            assert!(held.is_some_and(|reads| !reads.is_empty()), "there was no place");
            for _ in 0..10 {
                world.clock.advance(Duration::from_millis(1));
                turns(10).await;
            }
        };
        let (raised, ()) = futures::join!(world.drive.raise_incarnation(), later);
        assert_eq!((raised, world.drive.damage().suspect), (Ok(told + 1), false));
        world.media.set_plan(Arc::new(NoFaults));
    });
}

#[test]
fn a_raise_that_fails_half_way_leaves_the_drive_the_one_it_was() {
    run(async {
        for at in 0..CHANGES {
            let (world, writer) = in_use().await;
            let image = world.media.image();
            let told = world.drive.raise_incarnation().await.unwrap();
            world.media.set_plan(Plan::new(at, Fault::Error, None));
            assert_eq!(world.drive.raise_incarnation().await, Err(Refusal::DriveError));
            assert_eq!((world.drive.incarnation(), world.drive.damage().suspect), (told, true));
            assert_eq!(world.drive.check_identity().await, Standing::Admitted, "after {at} changes");
            assert_eq!(writer.seal(&world.drive, 2).await.unwrap().rows, 1);
            writer.check(&world.drive).await;
            assert_eq!(world.drive.raise_incarnation().await, Ok(told + 2), "above what was tried");
            assert_eq!(world.drive.check_identity().await, Standing::Admitted);
            world.media.restore(&image);
            assert_eq!(world.drive.check_identity().await, Standing::Replaced, "an old image is none of it");
        }
    });
}

#[test]
fn an_opening_that_cannot_raise_half_way_leaves_the_drive_the_one_it_was() {
    run(async {
        for at in 0..CHANGES {
            let (world, writer) = in_use().await;
            let told = world.drive.incarnation();
            let world = open_again(world, Plan::new(at, Fault::Error, None)).await;
            assert_eq!((world.drive.incarnation(), world.drive.damage().suspect), (told, true));
            assert_eq!(world.drive.check_identity().await, Standing::Admitted, "after {at} changes");
            assert_eq!(writer.seal(&world.drive, 2).await.unwrap().rows, 1);
            writer.check(&world.drive).await;
            // What the failed flush was to cover is lost now, or is not.
            world.media.power_cut(at);
            let world = world.restart().await;
            assert!(world.drive.incarnation() > told && world.drive.drive_state().writable);
        }
    });
}

#[test]
fn openings_that_failed_and_a_copy_that_cannot_be_read_keep_no_drive_shut() {
    run(async {
        for (first, second) in (0..CHANGES).flat_map(|first| (0..CHANGES).map(move |second| (first, second)))
        {
            for unreadable in 0..superblock::COPIES {
                let (world, writer) = in_use().await;
                let told = world.drive.incarnation();
                let world = open_again(world, Plan::new(first, Fault::Error, None)).await;
                world.media.power_cut(first);
                let world = open_again(world, Plan::new(second, Fault::Error, None)).await;
                let unreadable = copies(&world)[unreadable];
                let world = open_again(world, Plan::new(u64::MAX, Fault::None, Some(unreadable))).await;
                assert!(world.drive.incarnation() > told && world.drive.drive_state().writable);
                assert_eq!(world.drive.check_identity().await, Standing::Admitted);
                writer.check(&world.drive).await;
            }
        }
    });
}

#[test]
fn what_was_told_is_outdone_with_one_write_lost_one_copy_torn_and_one_that_cannot_be_read() {
    run(async {
        for (lost, cut) in (0..CHANGES).step_by(2).flat_map(|lost| (0..=CHANGES).map(move |cut| (lost, cut)))
        {
            for (place, from_the_start) in
                (0..superblock::COPIES).flat_map(|place| [(place, true), (place, false)])
            {
                let (world, writer) = in_use().await;
                world.media.set_plan(Plan::new(lost, Fault::LostWrite, None));
                let told = world.drive.raise_incarnation().await.unwrap();
                let unreadable = Some(copies(&world)[place]);
                let plan = Plan::new(cut, Fault::Error, unreadable.filter(|_| from_the_start));
                let world = open_again(world, plan.clone()).await;
                if cut < CHANGES {
                    world.media.rot(plan.last.load(Ordering::Relaxed) + 30, 1);
                }
                world.media.power_cut(lost + cut);
                let world = open_again(world, Plan::new(u64::MAX, Fault::None, unreadable)).await;
                assert!(world.drive.incarnation() > told, "{lost} {cut} {place}");
                assert_eq!(world.drive.check_identity().await, Standing::Admitted);
                writer.check(&world.drive).await;
            }
        }
    });
}
