use super::{LATENCY_BUCKETS, Latency, Meter};
use crate::device::{Class, Completion, DeviceError, Kind};
use std::time::Duration;

#[test]
fn a_duration_falls_into_the_first_bucket_whose_bound_it_does_not_exceed() {
    for bucket in 0..LATENCY_BUCKETS {
        let bound = Latency::bound(bucket).unwrap();
        let latency = Latency::default();
        latency.note(bound);
        latency.note(bound + Duration::from_nanos(1));
        let counts = latency.read();
        assert_eq!((counts.buckets[bucket], counts.buckets[bucket + 1]), (1, 1), "{bound:?}");
        assert_eq!((counts.count(), counts.sum), (2, 2 * bound + Duration::from_nanos(1)));
    }
    assert_eq!(Latency::bound(LATENCY_BUCKETS), None);
    let latency = Latency::default();
    latency.note(Duration::ZERO);
    latency.note(Duration::MAX);
    assert_eq!((latency.read().buckets[0], latency.read().buckets[LATENCY_BUCKETS]), (1, 1));
}

fn completion(result: Result<(), DeviceError>) -> Completion {
    Completion { result, buffer: None }
}

#[test]
fn operations_are_counted_by_class_and_kind_with_their_bytes_and_errors() {
    let meter = Meter::default();
    assert_eq!(meter.read(), []);
    let broken = || DeviceError::Io {
        offset_bytes: 0,
        len_bytes: 4096,
        source: std::io::Error::other("it is broken"),
    };
    for (class, kind, len_bytes, result) in [
        (Class::ForegroundRead, Kind::Read, 4096, Ok(())),
        (Class::ForegroundRead, Kind::Read, 8192, Ok(())),
        (Class::ForegroundRead, Kind::Read, 4096, Err(broken())),
        (Class::ForegroundRead, Kind::Read, 4096, Err(DeviceError::Busy { in_flight_max: 1 })),
        (Class::Scrub, Kind::Read, 4096, Ok(())),
        (Class::Append, Kind::Flush, 0, Ok(())),
    ] {
        meter.note((class, kind), len_bytes, &completion(result), Duration::from_millis(1));
    }
    let counts = meter.read();
    let seen: Vec<_> = counts
        .iter()
        .map(|cell| (cell.class, cell.kind, cell.latency.count(), cell.bytes, cell.errors))
        .collect();
    let expected = [
        (Class::ForegroundRead, Kind::Read, 3, 12288, 1),
        (Class::Append, Kind::Flush, 1, 0, 0),
        (Class::Scrub, Kind::Read, 1, 4096, 0),
    ];
    assert_eq!(seen, expected, "what there was no room for was not done");
}
