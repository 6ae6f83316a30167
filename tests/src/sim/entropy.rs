//! The process's source of randomness, seeded on threads that simulate.
//!
//! std's hash maps, tokio, futures and rand all draw their seeds from the C library's `getrandom`. This crate defines that
//! symbol, so wherever it is linked, they call here: a thread that simulates gets numbers that follow from its seed, every
//! other thread asks the kernel as before.
#![allow(unsafe_code)]

use super::draws::Draws;
use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};

thread_local! {
    // Const and without a destructor: this is read while other thread locals are being made.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on the randomness of this thread follows from `seed`. To be called first thing on a fresh thread: what was
/// seeded before stays as it is.
pub fn seed_this_thread(seed: u64) {
    SEED.set(Some(seed));
}

/// Whether this thread's randomness follows from a seed.
pub fn is_seeded() -> bool {
    SEED.get().is_some()
}

/// The C library's `getrandom`.
///
/// # Safety
/// As in C: `buffer` is valid for writes of `len_bytes`.
// SAFETY: the name is the C library's and so are signature and behaviour; whichever definition the linker takes, callers
// get what the manual page promises.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, len_bytes: usize, flags: c_uint) -> isize {
    let Some(seed) = SEED.get() else {
        // SAFETY: the caller's promise about `buffer` and `len_bytes` is the one that the system call asks for.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, len_bytes, flags) } as isize;
    };
    let mut draws = Draws::new(seed);
    let mut done = 0;
    while done < len_bytes {
        let bytes = draws.u64().to_le_bytes();
        let piece = bytes.len().min(len_bytes - done);
        // SAFETY: `done + piece <= len_bytes`, so by the caller's promise the target is writable; the source is a local
        // array of at least `piece` bytes and cannot overlap it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast::<u8>().add(done), piece) };
        done += piece;
    }
    // A call for nothing is how the crate `getrandom` finds out whether there is this function: once a process, so it must
    // not shift what follows.
    if len_bytes > 0 {
        SEED.set(Some(draws.u64()));
    }
    isize::try_from(len_bytes).expect("a buffer is at most half of memory")
}

/// The C library's `getentropy`.
///
/// # Safety
/// As in C: `buffer` is valid for writes of `len_bytes`.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getentropy(buffer: *mut c_void, len_bytes: usize) -> c_int {
    // SAFETY: the caller's promise, passed on.
    let done = unsafe { getrandom(buffer, len_bytes, 0) };
    if done == len_bytes as isize { 0 } else { -1 }
}

#[cfg(test)]
mod tests {
    use super::{is_seeded, seed_this_thread};
    use std::hash::{BuildHasher, RandomState};

    fn draw(seed: Option<u64>) -> (u64, u64) {
        std::thread::spawn(move || {
            if let Some(seed) = seed {
                seed_this_thread(seed);
                assert!(is_seeded());
            }
            (RandomState::new().hash_one(1), rand::random())
        })
        .join()
        .unwrap()
    }

    #[test]
    fn hash_maps_and_generators_of_a_seeded_thread_follow_from_the_seed() {
        assert_eq!(draw(Some(1)), draw(Some(1)));
        assert_ne!(draw(Some(1)), draw(Some(2)));
    }

    #[test]
    fn other_threads_stay_random() {
        assert_ne!(draw(None), draw(None));
    }
}
