//! How long users wait for a drive, so that background work starts nothing while they wait.
//!
//! Operations are watched as they pass: all are counted for the drive's meter, and for this besides. Background work asks for its turn before each operation. It has
//! none while some foreground operation has been waited for too long, or was a moment ago, nor while as many of its own are under way as the foreground has borne:
//! that many fewer by half each time that one was too slow, one more after a while without (as TCP finds what a path bears: Jacobson, "Congestion avoidance and
//! control", 1988). But a few are never put off for long, else nothing that is lost would be made again from a drive that is always busy; and one of a scrub from
//! time to time, else it would never be verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use strongroom_env::Clock;
use strongroom_io::meter::Meter;
use strongroom_io::{Class, Closing, Device, End, Kind, Operation, Pending, Shape, Watched, Watcher};
use strongroom_types::Instant;

/// A foreground operation that takes longer is waited for too long.
const WAIT_MAX: Duration = Duration::from_millis(2);
/// For so long after such a one background work has no turn.
const CALM: Duration = Duration::from_millis(10);
/// Between two looks whether it is its turn.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// So long after the last one an operation of a scrub has its turn whatever the foreground does: with pieces of 1 MiB a drive of 1 TB is still verified in 3 days.
/// What makes things durable waits so long each time,
const PUT_OFF_MAX: Duration = Duration::from_millis(250);
/// and then is one of as many at once. A conversion of 256 MiB ends within its patience so.
const FLOOR: u32 = 4;
/// Background operations under way where the foreground bears them.
const WINDOW_MAX: u32 = 64;
/// Between two steps by which they become more.
const GROW_EVERY: Duration = Duration::from_millis(50);
/// Without any foreground operation for so long there is nobody to wait.
const IDLE: Duration = Duration::from_millis(100);

/// What is known of the foreground's waiting.
struct Load {
    /// Foreground operations under way.
    under_way: AtomicU32,
    /// When one of them last ended, or the first of them began.
    moved_ns: AtomicU64,
    /// When one that was too slow last ended; 0 for never.
    slow_ns: AtomicU64,
    /// Background operations under way,
    background: AtomicU32,
    /// and how many there may be.
    window: AtomicU32,
    /// When that last changed.
    changed_ns: AtomicU64,
    /// When background work last had its turn.
    turn_ns: AtomicU64,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            under_way: AtomicU32::default(),
            moved_ns: AtomicU64::default(),
            slow_ns: AtomicU64::default(),
            background: AtomicU32::default(),
            window: AtomicU32::new(WINDOW_MAX),
            changed_ns: AtomicU64::default(),
            turn_ns: AtomicU64::default(),
        }
    }
}

impl Load {
    fn begin(&self, now: Instant) {
        if self.under_way.fetch_add(1, Ordering::Relaxed) == 0 {
            self.moved_ns.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    fn end(&self, began: Instant, now: Instant) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.moved_ns.store(now.as_nanos(), Ordering::Relaxed);
        let is_slow = now.since(began) > WAIT_MAX;
        if is_slow {
            self.slow_ns.store(now.as_nanos().max(1), Ordering::Relaxed);
        }
        self.adapt(is_slow, now);
    }

    /// What was begun before the window became smaller says nothing of the smaller one.
    fn adapt(&self, is_slow: bool, now: Instant) {
        let step = if is_slow { CALM } else { GROW_EVERY };
        if since(&self.changed_ns, now) < step {
            return;
        }
        let window = self.window.load(Ordering::Relaxed);
        let next = if is_slow { (window / 2).max(1) } else { (window + 1).min(WINDOW_MAX) };
        self.window.store(next, Ordering::Relaxed);
        self.changed_ns.store(now.as_nanos(), Ordering::Relaxed);
    }

    fn is_calm(&self, now: Instant) -> bool {
        let stuck = self.under_way.load(Ordering::Relaxed) > 0 && since(&self.moved_ns, now) > WAIT_MAX;
        let was_slow = self.slow_ns.load(Ordering::Relaxed) != 0 && since(&self.slow_ns, now) < CALM;
        !stuck && !was_slow
    }

    /// Whether background work that waits since then may begin an operation now; then that was its turn.
    fn takes_turn(&self, class: Class, since_when: Instant, now: Instant) -> bool {
        let idle = self.under_way.load(Ordering::Relaxed) == 0 && since(&self.moved_ns, now) > IDLE;
        let window = if idle { WINDOW_MAX } else { self.window.load(Ordering::Relaxed) };
        let background = self.background.load(Ordering::Relaxed);
        let borne = self.is_calm(now) && background < window;
        if class != Class::Scrub {
            return borne || (background < FLOOR && now.since(since_when) >= PUT_OFF_MAX);
        }
        let last_ns = self.turn_ns.load(Ordering::Relaxed);
        let put_off = now.since(Instant::from_nanos(last_ns)) >= PUT_OFF_MAX;
        if !borne && !put_off {
            return false;
        }
        // Of many that were put off one has its turn.
        let taken =
            self.turn_ns.compare_exchange(last_ns, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed);
        borne || taken.is_ok()
    }
}

fn since(nanos: &AtomicU64, now: Instant) -> Duration {
    now.since(Instant::from_nanos(nanos.load(Ordering::Relaxed)))
}

/// What watches a device.
struct Watch {
    clock: Arc<dyn Clock>,
    load: Load,
    meter: Meter,
}

impl Watcher for Watch {
    fn ended(&self, watched: &Watched, end: End<'_>) {
        let (now, begun) = (self.clock.now(), Instant::from_nanos(watched.begun_ns));
        match watched.class.is_background() {
            true => drop(self.load.background.fetch_sub(1, Ordering::Relaxed)),
            false => self.load.end(begun, now),
        }
        if let End::Completed(completion) = end {
            let kind = (watched.class, watched.kind);
            self.meter.note(kind, watched.len_bytes, completion, now.since(begun));
        }
    }
}

/// A device whose operations are watched.
pub(crate) struct Attended {
    device: Arc<dyn Device>,
    watch: Arc<Watch>,
    yields: AtomicBool,
}

impl Attended {
    pub(super) fn new(device: Arc<dyn Device>, clock: Arc<dyn Clock>) -> Self {
        let watch = Watch { clock, load: Load::default(), meter: Meter::default() };
        Self { device, watch: Arc::new(watch), yields: AtomicBool::new(true) }
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.watch.meter
    }

    pub(super) fn set_yields(&self, yields: bool) {
        self.yields.store(yields, Ordering::Relaxed);
    }

    /// Waits until background work of this class may begin an operation.
    pub(crate) async fn turn(&self, class: Class) {
        if !self.yields.load(Ordering::Relaxed) {
            return;
        }
        let Watch { clock, load, .. } = self.watch.as_ref();
        let since = clock.now();
        while !load.takes_turn(class, since, clock.now()) {
            clock.sleep(LOOK_EVERY).await;
        }
    }
}

impl Device for Attended {
    fn shape(&self) -> Shape {
        self.device.shape()
    }

    fn submit(&self, operation: Operation, class: Class) -> Pending {
        let now = self.watch.clock.now();
        let len_bytes = operation.range().map_or(0, |(_, len_bytes)| len_bytes);
        let watched = Watched { class, kind: Kind::of(&operation), len_bytes, begun_ns: now.as_nanos() };
        match class.is_background() {
            true => drop(self.watch.load.background.fetch_add(1, Ordering::Relaxed)),
            false => self.watch.load.begin(now),
        }
        self.device.submit(operation, class).watched(self.watch.clone(), watched)
    }

    fn close(&self) -> Closing {
        self.device.close()
    }
}

#[cfg(test)]
mod tests {
    use super::{CALM, FLOOR, GROW_EVERY, IDLE, Load, PUT_OFF_MAX, WAIT_MAX, WINDOW_MAX};
    use std::sync::atomic::Ordering;
    use std::time::Duration;
    use strongroom_io::Class;
    use strongroom_types::Instant;

    #[test]
    fn background_has_its_turn_unless_the_foreground_waits_or_just_did() {
        let load = Load::default();
        let at = |millis| Instant::ORIGIN.after(Duration::from_secs(1)).after(Duration::from_millis(millis));
        assert!(load.is_calm(at(0)), "nothing is under way");
        load.begin(at(0));
        assert!(load.is_calm(at(2)), "it has not waited for long");
        assert!(!load.is_calm(at(3)), "it has");
        load.begin(at(3));
        load.end(at(3), at(4));
        assert!(load.is_calm(at(5)), "the drive still answers");
        let end = at(7);
        assert!(end.since(at(0)) > WAIT_MAX);
        load.end(at(0), end);
        assert!(!load.is_calm(end), "one was slow");
        assert!(load.is_calm(end.after(CALM)), "that is over");
    }

    #[test]
    fn there_are_as_many_background_operations_as_the_foreground_bears() {
        let (load, mut now) = (Load::default(), Instant::ORIGIN.after(Duration::from_secs(1)));
        let foreground = |now: &mut Instant, took: Duration| {
            load.begin(*now);
            *now = now.after(took);
            load.end(Instant::from_nanos(now.as_nanos() - took.as_nanos() as u64), *now);
        };
        let turns = |now: Instant| {
            load.background.store(0, Ordering::Relaxed);
            let turns =
                std::iter::repeat_with(|| load.takes_turn(Class::Scrub, now, now)).take_while(|turn| *turn);
            turns.map(|_| load.background.fetch_add(1, Ordering::Relaxed)).take(1000).count() as u32
        };
        foreground(&mut now, WAIT_MAX);
        assert_eq!(turns(now), WINDOW_MAX);
        for halved in [WINDOW_MAX / 2, WINDOW_MAX / 4, WINDOW_MAX / 8] {
            foreground(&mut now, CALM);
            assert_eq!(turns(now), 0, "a slow one was a moment ago");
            now = now.after(CALM);
            assert_eq!(turns(now), halved);
        }
        for _ in 0..10 {
            foreground(&mut now, GROW_EVERY);
            now = now.after(CALM);
        }
        assert_eq!(turns(now), 1, "one at least");
        for more in [2, 3, 4] {
            now = now.after(GROW_EVERY);
            foreground(&mut now, WAIT_MAX);
            assert_eq!(turns(now), more);
        }
        assert_eq!(turns(now.after(2 * IDLE)), WINDOW_MAX, "nobody waits");
    }

    #[test]
    fn of_those_that_were_put_off_a_few_have_their_turns() {
        let (load, now) = (Load::default(), Instant::ORIGIN.after(Duration::from_secs(1)));
        let scrub = |now| load.takes_turn(Class::Scrub, Instant::ORIGIN, now);
        assert!(scrub(now));
        load.begin(now);
        let (stuck, busy) = (now.after(2 * WAIT_MAX), now.after(PUT_OFF_MAX));
        assert!(!scrub(stuck), "the drive does not answer");
        assert!(scrub(busy) && !scrub(busy), "one of many");
        assert!(scrub(busy.after(PUT_OFF_MAX)));
        // What makes things durable goes on beside a foreground that is slow for ever, a few operations at once.
        let convert = |since, now| load.takes_turn(Class::Convert, since, now);
        assert!(!convert(stuck, busy) && convert(now, busy) && convert(now, busy));
        load.background.store(FLOOR, Ordering::Relaxed);
        assert!(!convert(now, busy.after(PUT_OFF_MAX)));
        load.background.store(FLOOR - 1, Ordering::Relaxed);
        assert!(convert(now, busy));
    }
}
