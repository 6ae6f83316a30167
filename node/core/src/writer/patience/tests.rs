use super::Patience;
use crate::limits::{ACK_LATENCIES_COUNT, ACK_LATENCIES_STEP, ACK_PATIENCE_MAX, ACK_PATIENCE_MIN};
use std::time::Duration;

fn fed(millis: impl IntoIterator<Item = u64>) -> Duration {
    let mut patience = Patience::new();
    for latency in millis {
        patience.record(Duration::from_millis(latency));
    }
    patience.get()
}

#[test]
fn stays_between_its_bounds() {
    assert_eq!(fed([]), ACK_PATIENCE_MIN);
    assert_eq!(fed([1; ACK_LATENCIES_COUNT]), ACK_PATIENCE_MIN);
    assert_eq!(fed([60_000; ACK_LATENCIES_COUNT]), ACK_PATIENCE_MAX);
    assert_eq!(fed([u64::MAX / 2; ACK_LATENCIES_STEP]), ACK_PATIENCE_MAX);
}

#[test]
fn is_five_times_the_99th_percentile() {
    assert_eq!(fed([20; ACK_LATENCIES_COUNT]), Duration::from_millis(100));
    // Two of 256 are within the last hundredth; three are not.
    let outliers = |count| (0..ACK_LATENCIES_COUNT).map(move |index| if index < count { 400 } else { 20 });
    assert_eq!(fed(outliers(2)), Duration::from_millis(100));
    assert_eq!(fed(outliers(3)), Duration::from_millis(2000));
}

#[test]
fn forgets_what_is_long_ago() {
    let slow_then_fast = [500; ACK_LATENCIES_COUNT].into_iter().chain([20; ACK_LATENCIES_COUNT]);
    assert_eq!(fed(slow_then_fast), Duration::from_millis(100));
}
