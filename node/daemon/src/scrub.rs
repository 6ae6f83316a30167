//! Scrub: each drive's fragments are read again and compared with their checksums, tour after tour, so that what rotted is found while the others are whole.
//!
//! One task a drive. At its usual pace a tour takes the configured time, in which the foreground has its way before each read; when asked it goes as fast as
//! the drive does. The place of a tour is written with the drive's incarnation, so a restart costs what was read since. What is bad is noted in the drive,
//! told to the slab table by [`crate::sweeper`], and made again by [`crate::caretaker`].

mod course;

use self::course::{Course, Orders};
use crate::drive::Drive;
use crate::drive::standing::Standing;
use crate::drive::tour::TourProgress;
use crate::drive::verify::{NotVerified, PieceBuffers, Verdict};
use crate::events::{Event, Events};
use crate::holder::Holder;
use crate::jobs::{DriveName, Job, JobSpec, Jobs, Kind, Subject, Unit};
use futures::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use strongroom_core::tour;
use strongroom_env::Env;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::superblock::TourPlace;
use strongroom_io::Class;
use strongroom_types::{DriveId, Instant};

pub use self::course::{Asked, AskedTour, Findings, TourFindings};

/// Reads of one fragment under way at once at full speed: what a drive's queue needs to be kept busy,
const DEPTH_FULL: usize = 8;
/// and fragments: while one comes to its end, the next has begun. In memory are as many pieces of a megabyte as the two make.
const FRAGMENTS_FULL: usize = 3;
/// Slabs that are looked up at once at full speed: the queue runs empty once in so many.
const SLABS_FULL: usize = 128;
/// Between two looks at whether a drive that cannot be verified now can be.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A tour takes no less, be the drive empty.
const TOUR_MIN: Duration = Duration::from_secs(1);
/// A fragment that cannot be read now, or that changes, is tried again so often before the tour goes on without it.
const TRIES_MAX: u32 = 5;

/// What the scrubber works with.
pub struct ScrubberParts {
    /// The world.
    pub env: Env,
    /// The drives.
    pub holder: Holder,
    /// A tour takes so long.
    pub period: Duration,
    /// Where each drive's standing job is.
    pub jobs: Arc<Jobs>,
    /// Where findings are told.
    pub events: Arc<Events>,
}

/// Scrubs this node's drives.
pub struct Scrubber {
    env: Env,
    period: Duration,
    events: Arc<Events>,
    drives: BTreeMap<DriveId, Course>,
}

impl Scrubber {
    /// Starts scrubbing.
    pub fn start(parts: ScrubberParts) -> Arc<Self> {
        let ScrubberParts { env, holder, period, jobs, events } = parts;
        let course = |drive: &Arc<Drive>| {
            let subject = Subject::Drive(DriveName::new(drive.id()));
            let job = jobs.stand(JobSpec { kind: Kind::Scrub, subject, unit: Unit::Bytes });
            (drive.id(), Course::new(drive.id(), job))
        };
        let drives = holder.drives().map(course).collect();
        let scrubber = Arc::new(Self { env, period, events, drives });
        for drive in holder.drives() {
            let (scrubbing, drive) = (scrubber.clone(), drive.clone());
            let task = async move { scrubbing.scrub(&drive).await };
            scrubber.env.spawn.spawn("scrub", Box::pin(task));
        }
        scrubber
    }

    /// Has a new tour of a drive begin, at full speed; held and paced by `run` besides, if there is one. `None` where it has no such drive.
    pub fn begin_now(&self, drive: DriveId, run: Option<Arc<Job>>) -> Option<Asked> {
        self.drives.get(&drive).map(|course| course.ask(run))
    }

    /// Whether a tour of a drive that was asked for is not over.
    pub fn is_under_way(&self, drive: &Drive) -> bool {
        drive.standing() != Standing::Replaced && self.course(drive.id()).is_asked()
    }

    /// How far it is.
    pub fn how_far(&self, asked: Asked) -> AskedTour {
        self.course(asked.drive).how_far(asked)
    }

    /// Back to the usual pace; the tour goes on.
    pub fn call_off(&self, asked: Asked) {
        self.course(asked.drive).call_off(asked);
    }

    /// What was found on a drive in this run of the node.
    pub fn findings(&self, drive: DriveId) -> Findings {
        self.drives.get(&drive).map(Course::findings).unwrap_or_default()
    }

    fn course(&self, drive: DriveId) -> &Course {
        self.drives.get(&drive).expect("the drives are those of its start")
    }

    async fn scrub(&self, drive: &Drive) {
        drive.begin_history(self.env.clock.wall());
        let course = self.course(drive.id());
        loop {
            if drive.standing() == Standing::Replaced {
                course.drive_is_gone();
                return course.job.wait_for("the drive to be there again: the device is another one now");
            }
            course.hold().await;
            let began = self.env.clock.now();
            if course.orders().begin || drive.tour_progress().verified.tour.is_none() {
                course.begin();
                drive.begin_tour(self.env.rng.as_ref(), self.env.clock.wall());
            }
            match self.tour(drive, course).await {
                Ended::Whole => {
                    self.end_tour(drive, course).await;
                    let took = self.env.clock.now().since(began);
                    self.env.clock.sleep(TOUR_MIN.saturating_sub(took)).await;
                }
                Ended::ByOrder => {}
                Ended::DriveGone => {
                    course.job.wait_for("the drive to answer");
                    self.env.clock.sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    async fn end_tour(&self, drive: &Drive, course: &Course) {
        drive.end_tour(self.env.clock.wall());
        // Where it cannot be written the drive says so itself; what was true before still is.
        let _ = drive.raise_incarnation().await;
        let found = course.end();
        course.job.count("tours", 1);
        let (drive, bytes, fragments_bad) = (drive.id(), found.bytes_verified, found.fragments_bad);
        self.events.tell(Event::DriveVerified { drive, bytes, fragments_bad });
    }

    /// Goes on with the tour.
    async fn tour(&self, drive: &Drive, course: &Course) -> Ended {
        let buffers = PieceBuffers::default();
        let (mut looked, mut progress) = (self.env.clock.now(), self.look(drive, course));
        loop {
            if course.orders().begin {
                return Ended::ByOrder;
            }
            let full_speed = course.orders().full_speed;
            let keys = drive.next_of_tour(if full_speed { SLABS_FULL } else { 1 });
            // It goes through all fragments of the drive: not for each of a hundred thousand slabs anew.
            if keys.is_empty() || self.env.clock.now().since(looked) >= LOOK_EVERY {
                looked = self.env.clock.now();
                progress = self.look(drive, course);
            }
            let Some(place) = progress.verified.tour else { return Ended::ByOrder };
            if keys.is_empty() {
                return self.wait_for_period(course, &place).await;
            }
            course.job.go_on();
            let pace = self.pace(&place, progress.bytes_left);
            // Each, and whether it is the last of its slab.
            let nexts = keys.iter().skip(1).map(|next| Some(next.slab)).chain([None]);
            let keys: Vec<(FragmentKey, bool)> =
                keys.iter().zip(nexts).map(|(key, next)| (*key, next != Some(key.slab))).collect();
            let buffers = &buffers;
            let mut verified = stream::iter(keys)
                .map(|(key, is_last)| async move {
                    let ended = self.fragment(drive, course, key, pace, buffers).await;
                    (ended, is_last.then_some(key.slab))
                })
                .buffered(if full_speed { FRAGMENTS_FULL } else { 1 });
            while let Some((ended, past)) = verified.next().await {
                if let Some(ended) = ended {
                    return ended;
                }
                past.inspect(|slab| drive.tour_is_past(*slab, place.began));
            }
        }
    }

    /// How far the tour is; the job says so.
    fn look(&self, drive: &Drive, course: &Course) -> TourProgress {
        let progress = drive.tour_progress();
        let done_bytes = progress.bytes_total - progress.bytes_left.min(progress.bytes_total);
        course.job.set_progress(done_bytes, progress.bytes_total);
        progress
    }

    /// At its usual pace a tour that has looked at everything waits for its time to be over: else a small drive would be read over and over.
    async fn wait_for_period(&self, course: &Course, place: &TourPlace) -> Ended {
        course.job.wait_for("the end of the tour's time: everything was looked at");
        loop {
            course.hold().await;
            let Orders { full_speed, begin } = course.orders();
            if begin {
                return Ended::ByOrder;
            }
            let left = self.time_left(place);
            if full_speed || left.is_zero() {
                return Ended::Whole;
            }
            self.env.clock.sleep(left.min(LOOK_EVERY)).await;
        }
    }

    fn time_left(&self, place: &TourPlace) -> Duration {
        let now = self.env.clock.wall().as_unix_millis();
        // A clock that was set back must not stretch it.
        let passed = Duration::from_millis(now.saturating_sub(place.began.as_unix_millis()));
        self.period.saturating_sub(passed)
    }

    fn pace(&self, place: &TourPlace, bytes_left: u64) -> Pace {
        Pace { bytes_left, time_left: self.time_left(place) }
    }

    /// Verifies one fragment; says how the tour ends where it is to be left.
    async fn fragment(
        &self,
        drive: &Drive,
        course: &Course,
        key: FragmentKey,
        pace: Pace,
        buffers: &PieceBuffers,
    ) -> Option<Ended> {
        for _ in 0..TRIES_MAX {
            match self.verify(drive, course, key, pace, buffers).await {
                Ok(Some(verdict)) => {
                    self.note(drive.id(), course, key, &verdict);
                    return None;
                }
                Ok(None) => return None,
                Err(Stopped::Orders) => return Some(Ended::ByOrder),
                Err(Stopped::Not(NotVerified::Gone)) => return Some(Ended::DriveGone),
                Err(Stopped::Not(NotVerified::Busy | NotVerified::Changed)) => {}
            }
            self.env.clock.sleep(LOOK_EVERY).await;
        }
        tracing::warn!(drive = %drive.id(), slab = %key.slab, fragment = %key.fragment, "scrub: fragment could not be looked at; the tour goes on");
        drive.tour_passes_over();
        course.job.count("fragments passed over", 1);
        course.note(Findings { fragments_passed_over: 1, ..Findings::default() }, None);
        None
    }

    async fn verify(
        &self,
        drive: &Drive,
        course: &Course,
        key: FragmentKey,
        pace: Pace,
        buffers: &PieceBuffers,
    ) -> Result<Option<Verdict>, Stopped> {
        let orders = course.orders();
        let depth = if orders.full_speed { DEPTH_FULL } else { 1 };
        course.hold().await;
        drive.background_turn(Class::Scrub).await;
        let Some(mut verification) = drive.verify(key, depth, buffers.clone()).await.map_err(Stopped::Not)?
        else {
            return Ok(None);
        };
        let mut due = self.env.clock.now();
        while let Some(bytes) = verification.next().await.map_err(Stopped::Not)? {
            course.spend(bytes);
            if !orders.full_speed {
                due = due.after(tour::span(bytes, pace.bytes_left, pace.time_left));
                self.wait_until(course, orders, due).await;
            }
            course.hold().await;
            if course.orders() != orders {
                return Err(Stopped::Orders);
            }
            drive.background_turn(Class::Scrub).await;
        }
        verification.end().await.map(Some).map_err(Stopped::Not)
    }

    /// Waits, but not on when something else is asked of it.
    async fn wait_until(&self, course: &Course, orders: Orders, due: Instant) {
        loop {
            let left = due.since(self.env.clock.now());
            if left.is_zero() || course.orders() != orders {
                return;
            }
            self.env.clock.sleep(left.min(LOOK_EVERY)).await;
        }
    }

    fn note(&self, drive: DriveId, course: &Course, key: FragmentKey, verdict: &Verdict) {
        let (corrupt, unreadable) = (verdict.blocks_corrupt, verdict.blocks_unreadable);
        let findings = Findings {
            bytes_verified: verdict.bytes,
            fragments_verified: 1,
            fragments_bad: u64::from(!verdict.is_whole()),
            blocks_corrupt: corrupt,
            blocks_unreadable: unreadable,
            fragments_passed_over: 0,
        };
        course.note(findings, (!verdict.is_whole()).then_some(key));
        if verdict.is_whole() {
            return;
        }
        for (name, count) in
            [("damaged fragments", 1), ("corrupt blocks", corrupt), ("unreadable blocks", unreadable)]
        {
            course.job.count(name, count);
        }
        let (slab, fragment, first) = (key.slab, key.fragment, verdict.first_bad_bytes);
        tracing::warn!(%drive, %slab, %fragment, corrupt, unreadable, first, "scrub: fragment is not whole");
        self.events.tell(Event::FragmentDamaged {
            drive,
            slab,
            fragment,
            blocks_corrupt: corrupt,
            blocks_unreadable: unreadable,
        });
    }
}

/// What is left of a tour, and of its time.
#[derive(Clone, Copy)]
struct Pace {
    bytes_left: u64,
    time_left: Duration,
}

/// How going on with a tour ends.
enum Ended {
    /// Everything was looked at.
    Whole,
    /// Something else is asked for.
    ByOrder,
    /// The drive does not answer.
    DriveGone,
}

/// Why a fragment was not verified to its end.
enum Stopped {
    /// Something else is asked for.
    Orders,
    /// It could not be.
    Not(NotVerified),
}
