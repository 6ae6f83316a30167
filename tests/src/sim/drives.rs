//! A node's drives: the memory device of `strongroom-io` with latency and faults drawn from the seed.

use super::draws::Draws;
use super::trace::Trace;
use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use strongroom_io::memory::{Fault, FaultPlan, Intent, Kind, MemoryMedia};
use strongroom_types::NodeId;

const LATENCY: Range<Duration> = Duration::from_micros(30)..Duration::from_micros(2_500);
const SLOW: Range<Duration> = Duration::from_millis(10)..Duration::from_millis(800);
/// How long an operation that hangs takes.
pub const HANGS: Duration = Duration::from_secs(60);
/// Sectors of drives: what power leaves whole or not at all.
const SECTORS_LEN_BYTES: [usize; 2] = [512, 4096];
const BLOCK_LEN_BYTES: u64 = 4096;

/// How often something goes wrong with one operation of a drive, in a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriveWeather {
    /// A read fails.
    pub read_error: u32,
    /// A write fails; half of these were done all the same.
    pub write_error: u32,
    /// A flush fails.
    pub flush_error: u32,
    /// A read or write ends early and says so.
    pub short: u32,
    /// A block of what is read or written goes bad: reads of it fail until it is written again, whatever the weather is then.
    pub bad_place: u32,
    /// After an error so many operations at most fail as well; a count, no chance.
    pub burst_count_max: u32,
    /// A write reports success and leaves no trace.
    pub lost_write: u32,
    /// A write goes to another place, or a read is of one.
    pub misdirected: u32,
    /// Bits flip in what is read or was just written.
    pub rot: u32,
    /// A flush reports success and makes nothing durable.
    pub lying_flush: u32,
    /// It takes much longer than usual.
    pub slow: u32,
    /// It takes a minute.
    pub hangs: u32,
    /// Everything fails: the drive has died.
    pub dead: bool,
}

impl DriveWeather {
    /// Nothing but a slow operation now and then.
    pub const FAIR: Self = Self {
        read_error: 0,
        write_error: 0,
        flush_error: 0,
        short: 0,
        bad_place: 0,
        burst_count_max: 0,
        lost_write: 0,
        misdirected: 0,
        rot: 0,
        lying_flush: 0,
        slow: 500,
        hangs: 0,
        dead: false,
    };

    /// Whether bytes may be lost in it; else operations only take their time.
    pub fn harms(self) -> bool {
        Self { slow: 0, hangs: 0, ..self } != Self::default()
    }
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
    /// Operations that still fail after an error.
    burst_count: u32,
    /// Blocks that cannot be read until they are written.
    bad: BTreeSet<u64>,
}

impl SimDrive {
    /// An empty drive, the `index`-th of `node`.
    pub fn new(node: NodeId, index: usize, len_bytes: u64, draws: &Draws, trace: Arc<Trace>) -> Self {
        let name = format!("{node}.drive-{index}");
        let draws = draws.split(&name);
        let sector_len_bytes = *draws.split("sector").pick(&SECTORS_LEN_BYTES);
        let state = State { draws, weather: DriveWeather::FAIR, burst_count: 0, bad: BTreeSet::new() };
        let plan = Arc::new(DrivePlan { name, trace, len_bytes, state: Mutex::new(state) });
        let media = MemoryMedia::new(len_bytes);
        media.set_sector_len_bytes(sector_len_bytes);
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

    /// Other media are in the place of the old: what was bad about those is gone.
    pub fn forget(&self) {
        let mut state = self.lock();
        state.bad.clear();
        state.burst_count = 0;
    }

    fn draw(&self, intent: &Intent) -> Fault {
        let mut state = self.lock();
        let State { draws, weather, burst_count, bad } = &mut *state;
        if weather.dead {
            return Fault::Error;
        }
        if *burst_count > 0 {
            *burst_count -= 1;
            return Fault::Error;
        }
        let fault = Self::draw_one(draws, *weather, self.len_bytes, bad, intent);
        if matches!(fault, Fault::Error | Fault::ErrorAfter) && weather.burst_count_max > 0 {
            *burst_count =
                u32::try_from(draws.below(u64::from(weather.burst_count_max))).expect("below a u32");
        }
        fault
    }

    fn draw_one(
        draws: &mut Draws,
        weather: DriveWeather,
        len_bytes: u64,
        bad: &mut BTreeSet<u64>,
        intent: &Intent,
    ) -> Fault {
        let blocks = intent.offset_bytes / BLOCK_LEN_BYTES
            ..(intent.offset_bytes + intent.len_bytes).div_ceil(BLOCK_LEN_BYTES);
        let transfers = matches!(intent.kind, Kind::Read | Kind::Write);
        match intent.kind {
            Kind::Read if bad.range(blocks.clone()).next().is_some() => return Fault::Error,
            Kind::Write if !bad.is_empty() => bad.retain(|block| !blocks.contains(block)),
            Kind::Read | Kind::Write | Kind::Flush | Kind::Discard => {}
        }
        if transfers && draws.chance(weather.bad_place) {
            bad.insert(blocks.start + draws.below(blocks.end - blocks.start));
            if intent.kind == Kind::Read {
                return Fault::Error;
            }
        }
        match intent.kind {
            Kind::Read if draws.chance(weather.read_error) => Fault::Error,
            Kind::Read if draws.chance(weather.rot) => rot(draws, intent),
            Kind::Write if draws.chance(weather.write_error) => {
                if draws.chance(500_000) {
                    Fault::ErrorAfter
                } else {
                    Fault::Error
                }
            }
            Kind::Flush if draws.chance(weather.flush_error) => Fault::Error,
            Kind::Flush if draws.chance(weather.lying_flush) => Fault::LyingFlush,
            Kind::Write if draws.chance(weather.lost_write) => Fault::LostWrite,
            Kind::Write if draws.chance(weather.rot) => rot(draws, intent),
            Kind::Read | Kind::Write if draws.chance(weather.misdirected) => {
                Fault::Misdirected { offset_bytes: draws.below(len_bytes) }
            }
            Kind::Read | Kind::Write if draws.chance(weather.short) => {
                let done_blocks = draws.below(blocks.end - blocks.start);
                Fault::Short { done_blocks: u32::try_from(done_blocks).expect("an operation is short") }
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

    fn before(&self, intent: &Intent) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let mut state = self.lock();
        let DriveWeather { slow, hangs, .. } = state.weather;
        let (usual, extra) = (state.draws.duration(LATENCY), state.draws.duration(SLOW));
        let mut takes = if state.draws.chance(slow) { usual + extra } else { usual };
        if state.draws.chance(hangs) {
            let Intent { kind, offset_bytes, .. } = intent;
            self.trace.line(format_args!("drive {} {kind:?} at {offset_bytes} hangs", self.name));
            takes = HANGS;
        }
        Some(Box::pin(tokio::time::sleep(takes)))
    }
}

#[cfg(test)]
mod tests;
