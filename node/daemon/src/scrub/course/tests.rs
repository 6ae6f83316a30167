use super::{AskedTour, Course, Findings, Orders, TourFindings};
use crate::events::Events;
use crate::jobs::{Job, JobSpec, Jobs, Kind, Order, Subject, Unit};
use crate::limits::SCRUB_BAD_FRAGMENTS_MAX;
use crate::testing::StillClock;
use futures::FutureExt;
use std::sync::Arc;
use strongroom_format::checksum::FragmentKey;
use strongroom_types::{DriveId, FragmentIndex, Generation, SlabId};

const SPEC: JobSpec = JobSpec { kind: Kind::Scrub, subject: Subject::ThisNode, unit: Unit::Bytes };

fn course() -> (Arc<Jobs>, Course) {
    let clock = Arc::new(StillClock::default());
    let jobs = Jobs::new(clock.clone(), Events::new(clock));
    let course = Course::new(DriveId::new(7), jobs.stand(SPEC));
    (jobs, course)
}

fn run(jobs: &Jobs) -> Arc<Job> {
    jobs.begin(SPEC).unwrap()
}

fn key(slab: u64) -> FragmentKey {
    let (fragment, generation) = (FragmentIndex::new(1), Generation::new(0));
    FragmentKey { slab: SlabId::from_bits(slab), fragment, generation }
}

fn bad(blocks: u64) -> Findings {
    Findings { fragments_bad: 1, blocks_corrupt: blocks, ..Findings::default() }
}

#[test]
fn a_tour_that_is_asked_for_is_one_that_begins_afterwards() {
    let (_, course) = course();
    course.begin();
    course.note(bad(1), Some(key(1)));
    let asked = course.ask(None);
    assert_eq!(course.how_far(asked), AskedTour::Waits);
    assert_eq!(course.orders(), Orders { full_speed: true, begin: true });
    assert!(course.is_asked());

    // The one of before ends: it is not what was asked for, nor is what it found.
    assert_eq!(course.end(), bad(1));
    assert_eq!(course.how_far(asked), AskedTour::Waits);
    course.begin();
    assert_eq!(course.orders(), Orders { full_speed: true, begin: false });
    assert_eq!(course.how_far(asked), AskedTour::UnderWay);
    course.note(bad(2), Some(key(2)));
    course.note(Findings::default(), None);
    assert_eq!(course.end(), bad(2));
    let found = TourFindings { findings: bad(2), bad: vec![key(2)] };
    assert_eq!(course.how_far(asked), AskedTour::Over(found.clone()));
    assert_eq!(course.orders(), Orders { full_speed: false, begin: false });
    assert!(!course.is_asked());

    // Later ones that nobody asked for change nothing of what it came to.
    course.begin();
    course.note(bad(3), Some(key(3)));
    course.end();
    assert_eq!(course.how_far(asked), AskedTour::Over(found));
    assert_eq!(course.findings().blocks_corrupt, 1 + 2 + 3);
}

#[test]
fn asked_twice_it_begins_anew_and_one_tour_serves_both_that_came_before_it() {
    let (_, course) = course();
    let first = course.ask(None);
    course.begin();
    let second = course.ask(None);
    assert_eq!(course.orders(), Orders { full_speed: true, begin: true });
    course.begin();
    assert_eq!(course.how_far(first), AskedTour::UnderWay);
    course.end();
    for asked in [first, second] {
        assert_eq!(course.how_far(asked), AskedTour::Over(TourFindings::default()));
    }
}

#[test]
fn what_is_called_off_goes_on_at_the_usual_pace_and_what_is_over_stays_so() {
    let (_, course) = course();
    let asked = course.ask(None);
    course.begin();
    course.call_off(asked);
    assert_eq!(course.how_far(asked), AskedTour::CalledOff);
    assert_eq!(course.orders(), Orders { full_speed: false, begin: false });
    // One that was not begun yet does not begin either.
    let asked = course.ask(None);
    course.call_off(asked);
    assert_eq!(course.orders(), Orders { full_speed: false, begin: false });
    let asked = course.ask(None);
    course.begin();
    course.end();
    course.call_off(asked);
    assert_eq!(course.how_far(asked), AskedTour::Over(TourFindings::default()));
    let asked = course.ask(None);
    course.drive_is_gone();
    assert_eq!(course.how_far(asked), AskedTour::DriveGone);
    assert!(!course.is_asked());
}

#[test]
fn it_is_held_by_its_standing_job_and_by_the_run_that_asked_for_it() {
    let (jobs, course) = course();
    let run = run(&jobs);
    let asked = course.ask(Some(run.clone()));
    assert!(course.hold().now_or_never().is_some());
    for id in [course.job.id(), run.id()] {
        jobs.order(id, Order::Pause).unwrap();
        let mut held = Box::pin(course.hold());
        assert!((&mut held).now_or_never().is_none());
        jobs.order(id, Order::Resume).unwrap();
        assert!(held.now_or_never().is_some());
    }
    // A run that is over holds nothing.
    jobs.order(run.id(), Order::Pause).unwrap();
    assert!(course.hold().now_or_never().is_none());
    course.call_off(asked);
    assert!(course.hold().now_or_never().is_some());
}

#[test]
fn damaged_fragments_are_kept_in_mind_up_to_the_bound_and_counted_beyond() {
    let (_, course) = course();
    let asked = course.ask(None);
    course.begin();
    let count = SCRUB_BAD_FRAGMENTS_MAX as u64 + 1;
    (0..count).for_each(|slab| course.note(bad(1), Some(key(slab))));
    course.end();
    let AskedTour::Over(found) = course.how_far(asked) else { panic!("it is over") };
    assert_eq!((found.bad.len(), found.findings.fragments_bad), (SCRUB_BAD_FRAGMENTS_MAX, count));
}
