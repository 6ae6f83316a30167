use super::*;

#[test]
fn time_neither_wraps_nor_runs_back() {
    let late = Instant::from_nanos(u64::MAX - 1);
    assert_eq!(late.after(Duration::from_secs(5)), Instant::from_nanos(u64::MAX));
    assert_eq!(late.after(Duration::MAX), Instant::from_nanos(u64::MAX));
    assert_eq!(Instant::ORIGIN.since(late), Duration::ZERO);
    assert_eq!(late.since(Instant::ORIGIN).as_nanos(), u128::from(u64::MAX - 1));
}

#[test]
fn a_deadline_runs_out() {
    let second = Duration::from_secs(1);
    let deadline = Deadline::after(Instant::ORIGIN.after(second), second);
    assert_eq!(deadline.remaining(Instant::ORIGIN), 2 * second);
    assert_eq!(deadline.remaining(deadline.at()), Duration::ZERO);
    assert_eq!(deadline.remaining(deadline.at().after(second)), Duration::ZERO);
}
