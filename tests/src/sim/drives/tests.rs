use super::{DriveWeather, HANGS, SimDrive};
use crate::sim::trace::Sink;
use crate::sim::world::{Boot, World, run};
use futures::future::BoxFuture;
use std::time::Duration;
use strongroom_io::{AlignedBuffer, Class, DeviceError, Operation};
use strongroom_types::{NodeId, ZoneId};

const NODE: NodeId = NodeId::new(1);

fn simulate(body: impl FnOnce(World, Boot, SimDrive) -> BoxFuture<'static, ()> + Send + 'static) {
    run(3, Sink::None, |world| {
        Box::pin(async move {
            world.add(NODE, ZoneId::new(1), &[1 << 20]);
            let boot = world.boot(NODE);
            let drive = world.drives(NODE)[0].clone();
            body(world, boot, drive).await;
        })
    });
}

async fn read(boot: &Boot) -> Result<(), DeviceError> {
    let buffer = AlignedBuffer::zeroed(4096);
    boot.drives[0].submit(Operation::Read { offset_bytes: 8192, buffer }, Class::ForegroundRead).await.result
}

async fn write(boot: &Boot) -> Result<(), DeviceError> {
    let buffer = AlignedBuffer::copy_of(&[7; 4096]).unwrap();
    boot.drives[0].submit(Operation::Write { offset_bytes: 8192, buffer }, Class::Append).await.result
}

#[test]
fn a_bad_place_stays_bad_until_it_is_written() {
    simulate(|_, boot, drive| {
        Box::pin(async move {
            write(&boot).await.unwrap();
            drive.plan.set_weather(DriveWeather { bad_place: 1_000_000, ..DriveWeather::FAIR });
            assert!(read(&boot).await.is_err());
            drive.plan.set_weather(DriveWeather::FAIR);
            for _ in 0..3 {
                assert!(read(&boot).await.is_err(), "whatever the weather");
            }
            write(&boot).await.unwrap();
            read(&boot).await.unwrap();
        })
    });
}

#[test]
fn errors_come_in_bursts() {
    simulate(|_, boot, drive| {
        Box::pin(async move {
            let burst = DriveWeather { read_error: 100_000, burst_count_max: 20, ..DriveWeather::FAIR };
            drive.plan.set_weather(burst);
            let (mut after_error, mut after_success) = ([0, 0], [0, 0]);
            let mut failed = false;
            for _ in 0..2_000 {
                let fails = read(&boot).await.is_err();
                let counts = if failed { &mut after_error } else { &mut after_success };
                counts[usize::from(fails)] += 1;
                failed = fails;
            }
            assert!(after_error[1] > 3 * after_error[0], "{after_error:?}");
            assert!(after_success[0] > 5 * after_success[1], "{after_success:?}");
        })
    });
}

#[test]
fn what_hangs_takes_a_minute_and_what_is_dead_never_works() {
    simulate(|world, boot, drive| {
        Box::pin(async move {
            drive.plan.set_weather(DriveWeather { hangs: 1_000_000, ..DriveWeather::FAIR });
            let before = world.elapsed();
            write(&boot).await.unwrap();
            assert!(world.elapsed() - before >= HANGS);
            drive.plan.set_weather(DriveWeather { short: 1_000_000, ..DriveWeather::FAIR });
            assert!(matches!(read(&boot).await, Err(DeviceError::Short { .. })));
            drive.plan.set_weather(DriveWeather { dead: true, ..DriveWeather::FAIR });
            assert!(read(&boot).await.is_err() && write(&boot).await.is_err());
            drive.plan.set_weather(DriveWeather::FAIR);
            let before = world.elapsed();
            read(&boot).await.unwrap();
            assert!(world.elapsed() - before < Duration::from_secs(1));
        })
    });
}

#[test]
fn weather_that_only_slows_harms_nothing() {
    assert!(!DriveWeather::FAIR.harms());
    assert!(!DriveWeather { slow: 900_000, hangs: 10_000, ..DriveWeather::FAIR }.harms());
    assert!(DriveWeather { lying_flush: 1, ..DriveWeather::FAIR }.harms());
    assert!(DriveWeather { dead: true, ..DriveWeather::FAIR }.harms());
}
