use super::{
    BeginError, Cancelled, ControlError, DriveName, JobSpec, JobState, Jobs, Kind, MarginCounts, Order,
    Outcome, Report, Subject, Unit,
};
use crate::events::Events;
use crate::limits::{JOBS_ENDED_MAX, JOBS_RUNNING_MAX};
use crate::testing::StillClock;
use futures::FutureExt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use strongroom_core::Margin;
use strongroom_types::DriveId;

struct World {
    clock: Arc<StillClock>,
    events: Arc<Events>,
    jobs: Arc<Jobs>,
}

fn world() -> World {
    let clock = Arc::new(StillClock::default());
    let events = Events::new(clock.clone());
    World { jobs: Jobs::new(clock.clone(), events.clone()), events, clock }
}

fn spec(kind: Kind, subject: Subject) -> JobSpec {
    JobSpec { kind, subject, unit: Unit::Bytes }
}

const REPAIR: JobSpec = JobSpec { kind: Kind::Repair, subject: Subject::Cluster, unit: Unit::Fragments };

fn drive(number: u128) -> Subject {
    Subject::Drive(DriveName::new(DriveId::new(number)))
}

#[test]
fn a_paused_worker_waits_at_its_checkpoint_until_it_may_go_on() {
    let World { jobs, .. } = world();
    let job = jobs.stand(spec(Kind::Convert, Subject::ThisNode));
    assert_eq!(job.checkpoint().now_or_never(), Some(Ok(())));
    assert_eq!(jobs.order(job.id(), Order::Pause).unwrap().state, JobState::Paused);
    assert!(!job.may_begin());
    let mut waiting = Box::pin(job.checkpoint());
    assert_eq!((&mut waiting).now_or_never(), None);
    assert_eq!(jobs.order(job.id(), Order::Resume).unwrap().state, JobState::Running);
    assert_eq!(waiting.now_or_never(), Some(Ok(())));
    assert!(job.may_begin());
}

#[test]
fn a_cancelled_run_ends_at_its_checkpoint_also_while_it_is_paused_or_rests() {
    let World { jobs, .. } = world();
    let job = jobs.begin(REPAIR).unwrap();
    jobs.order(job.id(), Order::Pause).unwrap();
    let mut waiting = Box::pin(job.checkpoint());
    let mut resting = Box::pin(job.rest(Duration::from_secs(1)));
    assert_eq!((&mut waiting).now_or_never(), None);
    assert_eq!((&mut resting).now_or_never(), None);
    jobs.order(job.id(), Order::Cancel).unwrap();
    assert_eq!(waiting.now_or_never(), Some(Err(Cancelled)));
    assert_eq!(resting.now_or_never(), Some(Err(Cancelled)));
    jobs.end(&job, Outcome::Cancelled);
    assert_eq!(jobs.one(job.id()).unwrap().state, JobState::Cancelled);
    for order in [Order::Pause, Order::Resume, Order::Cancel, Order::Pace(None)] {
        assert_eq!(jobs.order(job.id(), order), Err(ControlError::Ended { id: job.id() }));
    }
}

#[test]
fn a_paced_worker_waits_until_its_bytes_are_paid_off() {
    let World { jobs, clock, .. } = world();
    let job = jobs.stand(spec(Kind::Convert, Subject::ThisNode));
    jobs.order(job.id(), Order::Pace(NonZeroU64::new(1000))).unwrap();
    assert_eq!(job.checkpoint().now_or_never(), Some(Ok(())));
    job.spend(3000);
    let mut waiting = Box::pin(job.checkpoint());
    assert_eq!((&mut waiting).now_or_never(), None);
    clock.pass(Duration::from_secs(2));
    assert_eq!((&mut waiting).now_or_never(), None);
    clock.pass(Duration::from_secs(1));
    assert_eq!(waiting.now_or_never(), Some(Ok(())));
    assert_eq!(jobs.one(job.id()).unwrap().pace_bytes_per_second, Some(1000));
    let sealing = jobs.stand(spec(Kind::Seal, Subject::ThisNode));
    let refused = jobs.order(sealing.id(), Order::Pace(None));
    assert_eq!(refused, Err(ControlError::NotPaced { id: sealing.id(), kind: Kind::Seal }));
}

#[test]
fn of_runs_that_do_not_go_together_the_second_is_refused_and_changes_nothing() {
    let World { jobs, events, .. } = world();
    let first = jobs.begin(spec(Kind::Scrub, drive(1))).unwrap();
    jobs.begin(spec(Kind::Scrub, drive(2))).expect("another drive");
    jobs.begin(spec(Kind::Repair, Subject::Cluster)).expect("another kind");
    let (known, told) = (jobs.all(), events.after(0));
    for subject in [drive(1), Subject::ThisNode, Subject::Cluster, Subject::Node(1)] {
        let conflict = BeginError::Conflict { other: first.id(), kind: Kind::Scrub };
        assert_eq!(jobs.begin(spec(Kind::Scrub, subject)).err(), Some(conflict), "{subject}");
        assert_eq!(jobs.may_begin(spec(Kind::Scrub, subject)), Err(conflict));
    }
    assert_eq!((jobs.all(), events.after(0)), (known, told));
    jobs.end(&first, Outcome::Done);
    jobs.begin(spec(Kind::Scrub, drive(1))).expect("the first one has ended");

    let drain = jobs.begin(spec(Kind::Drain, Subject::Node(1))).unwrap();
    let refused = jobs.begin(spec(Kind::Compact, Subject::ThisNode)).err();
    assert_eq!(refused, Some(BeginError::Conflict { other: drain.id(), kind: Kind::Drain }));
    // A worker's own job is in nobody's way.
    jobs.stand(spec(Kind::Seal, Subject::ThisNode));
    jobs.begin(spec(Kind::Seal, Subject::ThisNode)).unwrap();
}

#[test]
fn which_kinds_exclude_each_other_is_the_same_from_both_sides() {
    for one in Kind::ALL {
        for two in Kind::ALL {
            assert_eq!(one.excludes(two), two.excludes(one), "{one} {two}");
        }
        assert_eq!(serde_json::to_value(one).unwrap(), one.name());
    }
}

#[test]
fn runs_are_bounded_and_the_oldest_ended_one_is_forgotten_first() {
    let World { jobs, events, .. } = world();
    let standing = jobs.stand(spec(Kind::Sweep, Subject::ThisNode));
    let scrub = |number: usize| spec(Kind::Scrub, drive(number as u128));
    let running: Vec<_> = (0..JOBS_RUNNING_MAX).map(|number| jobs.begin(scrub(number)).unwrap()).collect();
    let refused = jobs.begin(scrub(JOBS_RUNNING_MAX)).err();
    assert_eq!(refused, Some(BeginError::TooMany { running_max: JOBS_RUNNING_MAX }));
    for job in &running {
        jobs.end(job, Outcome::Done);
        jobs.end(job, Outcome::Failed { reason: String::from("twice") });
    }
    assert_eq!(jobs.one(running[0].id()).unwrap().state, JobState::Done, "the first word counts");
    let told = events.after(0).told;
    assert_eq!(told.iter().filter(|told| told.event.name() == "job_ended").count(), running.len());
    for number in 0..JOBS_ENDED_MAX {
        let job = jobs.begin(scrub(number)).unwrap();
        jobs.end(&job, Outcome::Done);
    }
    let all = jobs.all();
    assert_eq!(all.len(), 1 + JOBS_ENDED_MAX);
    assert!(all.is_sorted_by_key(|job| job.id));
    let forgotten = running[0].id();
    assert_eq!(jobs.one(forgotten), Err(ControlError::NoSuchJob { id: forgotten }));
    assert_eq!(
        jobs.order(standing.id(), Order::Cancel),
        Err(ControlError::Standing { id: standing.id() }),
        "a worker is paused, never ended"
    );
}

#[test]
fn a_view_tells_progress_rate_time_left_counts_and_the_report() {
    let World { jobs, clock, .. } = world();
    let job = jobs.begin(REPAIR).unwrap();
    let fresh = job.view();
    assert_eq!((fresh.progress.done, fresh.progress.total), (0, None));
    assert_eq!((fresh.progress.rate_per_second, fresh.progress.left_seconds), (None, None));
    job.set_total(Some(100));
    clock.pass(Duration::from_secs(10));
    job.advance(40);
    job.count("fragments made again", 3);
    job.count("fragments made again", 1);
    let view = job.view();
    assert_eq!((view.progress.rate_per_second, view.progress.left_seconds), (Some(4.0), Some(15)));
    assert_eq!(view.counts.get("fragments made again"), Some(&4));
    job.wait_for("node 3 is away");
    let waiting = job.view();
    assert_eq!((waiting.state, waiting.reason.as_deref()), (JobState::Waiting, Some("node 3 is away")));
    assert_eq!(waiting.progress.left_seconds, None, "who waits does not know");
    job.go_on();
    job.set_progress(100, 100);
    let report = super::RepairReport { slabs: 7, ..Default::default() };
    job.set_report(Report::Repair(report.clone()));
    jobs.end(&job, Outcome::Done);
    clock.pass(Duration::from_secs(1000));
    let ended = jobs.one(job.id()).unwrap();
    assert!(ended.has_ended() && !view.has_ended());
    assert_eq!(ended.report, Some(Report::Repair(report)));
    assert_eq!(ended.progress.rate_per_second, Some(10.0), "what was, not what became of it since");
    assert_eq!(ended.began, "2023-11-14T22:13:20.000Z");
    assert_eq!(ended.ended.as_deref(), Some("2023-11-14T22:13:30.000Z"));
    let json = serde_json::to_value(&ended).unwrap();
    assert_eq!((&json["state"], &json["report"]["of"]), (&"done".into(), &"repair".into()));
    assert_eq!(serde_json::from_value::<super::JobView>(json).unwrap(), ended);
}

#[test]
fn a_failed_run_says_why() {
    let World { jobs, .. } = world();
    let job = jobs.begin(REPAIR).unwrap();
    jobs.end(&job, Outcome::Failed { reason: String::from("group-1 does not answer") });
    let view = jobs.one(job.id()).unwrap();
    assert_eq!((view.state, view.reason.as_deref()), (JobState::Failed, Some("group-1 does not answer")));
}

#[test]
fn subjects_spell_drives_in_hexadecimal_both_ways() {
    let json = serde_json::to_value(drive(0xab)).unwrap();
    assert_eq!(json, serde_json::json!({"drive": "000000000000000000000000000000ab"}));
    assert_eq!(serde_json::from_value::<Subject>(json).unwrap(), drive(0xab));
    assert_eq!(serde_json::to_value(Subject::ThisNode).unwrap(), "this_node");
    for bad in ["ab", "0000000000000000000000000000000g", "+00000000000000000000000000000ab", ""] {
        assert!(serde_json::from_value::<Subject>(serde_json::json!({ "drive": bad })).is_err(), "{bad:?}");
    }
}

#[test]
fn margins_are_counted_by_name() {
    let mut counts = MarginCounts::default();
    counts.add(Margin::Lost, 1);
    counts.add(Margin::Nothing, 2);
    counts.add(Margin::Node, 3);
    counts.add(Margin::Zone, 4);
    counts.add(Margin::ZonePlusOne, 5);
    counts += counts;
    let named = [("lost", 2), ("nothing", 4), ("node", 6), ("zone", 8), ("zone_plus_one", 10)];
    assert_eq!(counts.by_name(), named);
}
