//! Which error ends what.

use super::{Alarms, Damage, Judged, Verdict};
use crate::codec::RecordError;
use crate::kv::{Batch, Integrity, KvError, KvErrorKind, Lease, MemoryKv, MemoryMedia, OrderedKv};
use crate::log::LogError;
use crate::machine::MachineError;
use std::sync::Arc;

fn kv_error(kind: KvErrorKind) -> KvError {
    KvError { context: "test", kind, source: Box::new(std::io::Error::other("because")) }
}

/// Damaged, failed, alarms: after an error that a group stops because of.
fn after(error: &impl Judged, stops: bool) -> (bool, bool, usize) {
    let media = MemoryMedia::new();
    let alarms = Alarms::default();
    let damage = Damage::new(Arc::new(MemoryKv::on(&media)), alarms.clone());
    if stops {
        damage.stops(error);
    } else {
        assert_eq!(damage.met(error), error.verdict() == Verdict::Damaged);
    }
    let condemned = MemoryKv::on(&media).integrity() != Integrity::Whole;
    assert_eq!(condemned, damage.reason().is_some(), "what was found is noted");
    (condemned, alarms.failure().reason().is_some(), alarms.all().len())
}

#[test]
fn damage_condemns_a_failure_ends_the_process_and_a_fault_is_told() {
    let what = "record";
    for stops in [false, true] {
        let (damaged, faulty) = ((true, false, 0), (false, false, 1));
        assert_eq!(after(&MachineError::Record(RecordError::Corrupt { what }), stops), damaged);
        assert_eq!(after(&LogError::CorruptEntry { index: 1 }, stops), damaged);
        assert_eq!(after(&LogError::Hole { expected: 1, found: None }, stops), damaged);
        assert_eq!(after(&kv_error(KvErrorKind::Damaged), stops), damaged);
        assert_eq!(after(&MachineError::ContentMissing, stops), faulty);
        assert_eq!(after(&LogError::Record(RecordError::Undecodable { what }), stops), faulty);
        let other = RecordError::OtherVersion { what, found: 9, expected: 1 };
        assert_eq!(after(&MachineError::Record(other), stops), faulty);
        assert_eq!(after(&kv_error(KvErrorKind::OtherVersion), stops), faulty);
        assert_eq!(after(&kv_error(KvErrorKind::Ended), stops), (false, false, 0));
        // A read that failed may go well the next time; a group that stopped does not go on.
        assert_eq!(
            after(&LogError::Kv(kv_error(KvErrorKind::Failed)), stops),
            (false, stops, usize::from(stops))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_under_a_lease_is_noted_and_one_after_its_end_is_not() {
    let put = |lease: &Lease| lease.apply(Batch::default());
    let (media, alarms) = (MemoryMedia::new(), Alarms::default());
    let lease = Lease::new(Arc::new(MemoryKv::on(&media)), alarms.failure().clone());
    put(&lease).unwrap();
    lease.take_back();
    assert!(put(&lease).is_err() && lease.sync().is_err());
    assert_eq!(alarms.failure().reason(), None);
    let lease = Lease::new(Arc::new(MemoryKv::on(&media)), alarms.failure().clone());
    // Its store is dead from here on.
    drop(MemoryKv::on(&media));
    let waiting = tokio::spawn({
        let failure = alarms.failure().clone();
        async move { failure.any().await }
    });
    tokio::task::yield_now().await;
    assert!(put(&lease).is_err());
    assert!(waiting.await.unwrap().contains("apply"), "whoever waits is woken");
}
