//! A node's drives: the memory device of `strongroom-io` with latency and faults drawn from the seed.

use super::draws::Draws;
use super::trace::Trace;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use strongroom_io::memory::{Fault, FaultPlan, Intent, Kind, MemoryMedia};
use strongroom_types::NodeId;

const LATENCY: Range<Duration> = Duration::from_micros(30)..Duration::from_micros(2_500);
const SLOW: Range<Duration> = Duration::from_millis(10)..Duration::from_millis(800);

/// How often something goes wrong with one operation of a drive, in a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriveWeather {
    /// A read fails.
    pub read_error: u32,
    /// A write or flush fails; half of the writes were done all the same.
    pub write_error: u32,
    /// A write reports success and leaves no trace.
    pub lost_write: u32,
    /// A write goes to another place, or a read is of one.
    pub misdirected: u32,
    /// Bits flip in what is read or was just written.
    pub rot: u32,
    /// It takes much longer than usual.
    pub slow: u32,
    /// Everything fails: the drive has died.
    pub dead: bool,
}

impl DriveWeather {
    /// Nothing but a slow operation now and then.
    pub const FAIR: Self =
        Self { read_error: 0, write_error: 0, lost_write: 0, misdirected: 0, rot: 0, slow: 500, dead: false };
}

/// One drive, across the lives of its node.
#[derive(Clone)]
pub struct SimDrive {
    /// Its bytes.
    pub media: Arc<MemoryMedia>,
    /// Its faults.
    pub plan: Arc<DrivePlan>,
}

/// The faults of a drive.
pub struct DrivePlan {
    name: String,
    trace: Arc<Trace>,
    len_bytes: u64,
    state: Mutex<State>,
}

struct State {
    draws: Draws,
    weather: DriveWeather,
}

impl SimDrive {
    /// An empty drive, the `index`-th of `node`.
    pub fn new(node: NodeId, index: usize, len_bytes: u64, draws: &Draws, trace: Arc<Trace>) -> Self {
        let name = format!("{node}.drive-{index}");
        let state = State { draws: draws.split(&name), weather: DriveWeather::FAIR };
        let plan = Arc::new(DrivePlan { name, trace, len_bytes, state: Mutex::new(state) });
        let media = MemoryMedia::new(len_bytes);
        media.set_plan(Arc::clone(&plan) as Arc<dyn FaultPlan>);
        Self { media, plan }
    }
}

impl DrivePlan {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the weather of this drive is this.
    pub fn set_weather(&self, weather: DriveWeather) {
        self.lock().weather = weather;
        self.trace.line(format_args!("drive {} weather {weather:?}", self.name));
    }

    /// Its name in traces.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn draw(&self, intent: &Intent) -> Fault {
        let mut state = self.lock();
        let weather = state.weather;
        let draws = &mut state.draws;
        match intent.kind {
            _ if weather.dead => Fault::Error,
            Kind::Read if draws.chance(weather.read_error) => Fault::Error,
            Kind::Read if draws.chance(weather.rot) => rot(draws, intent),
            Kind::Write if draws.chance(weather.write_error) => {
                if draws.chance(500_000) {
                    Fault::ErrorAfter
                } else {
                    Fault::Error
                }
            }
            Kind::Flush if draws.chance(weather.write_error) => Fault::Error,
            Kind::Write if draws.chance(weather.lost_write) => Fault::LostWrite,
            Kind::Write if draws.chance(weather.rot) => rot(draws, intent),
            Kind::Read | Kind::Write if draws.chance(weather.misdirected) => {
                Fault::Misdirected { offset_bytes: draws.below(self.len_bytes) }
            }
            Kind::Read | Kind::Write | Kind::Flush | Kind::Discard => Fault::None,
        }
    }
}

fn rot(draws: &mut Draws, intent: &Intent) -> Fault {
    let offset_bytes = intent.offset_bytes + draws.below(intent.len_bytes.max(1));
    Fault::BitRot { offset_bytes, mask: 1 << draws.below(8) }
}

impl FaultPlan for DrivePlan {
    fn fault(&self, intent: &Intent) -> Fault {
        let fault = self.draw(intent);
        if fault != Fault::None {
            let Intent { kind, offset_bytes, len_bytes, .. } = intent;
            self.trace.line(format_args!(
                "drive {} {kind:?} of {len_bytes} B at {offset_bytes}: {fault:?}",
                self.name
            ));
        }
        fault
    }

    fn before(&self, _intent: &Intent) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let mut state = self.lock();
        let slow = state.weather.slow;
        let (usual, extra) = (state.draws.duration(LATENCY), state.draws.duration(SLOW));
        let takes = if state.draws.chance(slow) { usual + extra } else { usual };
        Some(Box::pin(tokio::time::sleep(takes)))
    }
}
