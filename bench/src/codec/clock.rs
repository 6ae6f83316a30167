//! Time that this thread was on a processor: what its neighbours on the machine take is not in it.

use nix::time::{ClockId, clock_gettime};
use std::hint::black_box;

/// CPU seconds of this thread so far.
pub fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has this clock");
    now.tv_sec() as f64 + now.tv_nsec() as f64 / 1e9
}

/// Cycles of a multiplication that waits for the one before, on all x86-64 and ARM processors of the last ten years.
const MULTIPLY_CYCLES: f64 = 3.0;
const MULTIPLICATIONS: u32 = 20_000_000;

/// The processor's clock in GHz, as it is now: by a chain of squarings, each of which waits for the one before.
pub fn gigahertz() -> f64 {
    let begun = cpu_seconds();
    let mut value = black_box(3u64);
    for _ in 0..MULTIPLICATIONS {
        value = value.wrapping_mul(value);
    }
    black_box(value);
    f64::from(MULTIPLICATIONS) * MULTIPLY_CYCLES / (cpu_seconds() - begun) / 1e9
}
