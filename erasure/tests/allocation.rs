//! The promise that encoding, verifying and applying a plan allocate nothing.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroUsize;
use strongroom_erasure::{Codec, MatrixId, Write};

thread_local! {
    /// Of this thread alone: the test harness allocates on others meanwhile.
    static ALLOCATION_COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: both methods pass their arguments unchanged to the system's allocator and return what it
// returns, so its guarantees are ours. The counter is a plain Cell made at compile time: reaching it neither
// allocates nor runs a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATION_COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System.alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller got `pointer` from `alloc` above with this layout, hence from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(action: impl FnOnce()) -> u64 {
    let before = ALLOCATION_COUNT.with(Cell::get);
    action();
    ALLOCATION_COUNT.with(Cell::get) - before
}

#[test]
fn the_steady_state_allocates_nothing() {
    let codec = Codec::new(9, 6, MatrixId::NormalisedCauchy).unwrap();
    let data: Vec<Vec<u8>> = (0..9).map(|index| vec![index; 1000]).collect();
    let mut parity = vec![vec![0; 1000]; 6];
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    {
        let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        assert_eq!(allocations_of(|| codec.encode(&data, &mut outputs).unwrap()), 0);
        let [first, .., last] = &mut outputs[..] else { unreachable!("six outputs") };
        let mut some = [(14, &mut **last), (9, &mut **first)];
        assert_eq!(allocations_of(|| codec.encode_some(&data, &mut some).unwrap()), 0);
    }
    let mut sums = [[0; 1]; 15];
    {
        let mut wanted: Vec<(usize, &mut [u8])> =
            (9..).zip(parity.iter_mut().map(Vec::as_mut_slice)).collect();
        let mut places: Vec<(usize, &mut [u32])> =
            sums.iter_mut().map(<[u32; 1]>::as_mut_slice).enumerate().collect();
        let block = NonZeroUsize::new(4096).unwrap();
        let encode = || codec.encode_summed(&data, &mut wanted, block, &mut places).unwrap();
        assert_eq!(allocations_of(encode), 0);
    }
    let all: Vec<&[u8]> = data.iter().copied().chain(parity.iter().map(Vec::as_slice)).collect();
    assert_eq!(allocations_of(|| assert!(codec.verify(&all).unwrap())), 0);

    let sources: Vec<(usize, &[u8])> = (2..11).map(|index| (index, all[index])).collect();
    let indices: Vec<usize> = sources.iter().map(|source| source.0).collect();
    let plan = codec.plan(&indices, &[0, 1]).unwrap();
    let (mut zero, mut one) = (vec![0; 1000], vec![0; 1000]);
    let mut wanted: [(usize, &mut [u8]); 2] = [(0, &mut zero), (1, &mut one)];
    assert_eq!(allocations_of(|| plan.reconstruct(&sources, &mut wanted).unwrap()), 0);
    assert_eq!(allocations_of(|| plan.partial_sum(&sources[3..], &mut wanted, Write::Add).unwrap()), 0);
    let mut part = [0; 10];
    assert_eq!(allocations_of(|| plan.decode_range(&sources, 5..15, &mut [(1, &mut part)]).unwrap()), 0);
    assert_eq!(part, data[1][5..15]);

    // A pattern that comes again is remembered.
    let mut wanted: [(usize, &mut [u8]); 2] = [(0, &mut zero), (1, &mut one)];
    codec.reconstruct_some(&sources, &mut wanted).unwrap();
    assert_eq!(allocations_of(|| codec.reconstruct_some(&sources, &mut wanted).unwrap()), 0);
    codec.decode_range(&sources, 5..15, &mut [(1, &mut part)]).unwrap();
    assert_eq!(allocations_of(|| codec.decode_range(&sources, 5..15, &mut [(1, &mut part)]).unwrap()), 0);
    assert_eq!(allocations_of(|| codec.update(3, &[1; 10], &mut [(12, &mut part)]).unwrap()), 0);

    // The counter counts.
    assert!(allocations_of(|| drop(std::hint::black_box(vec![1u8]))) > 0);
}
