//! What the tests share: the profiles, reproducible stripes, all subsets.

use strongroom_erasure::{Codec, MatrixId};

/// Every profile that the planner offers, copies included, then shapes that are common elsewhere.
pub const PROFILES: [(usize, usize); 21] = [
    (7, 5),
    (9, 6),
    (5, 4),
    (3, 3),
    (4, 2),
    (6, 8),
    (1, 1),
    (1, 2),
    (1, 3),
    (1, 5),
    (1, 31),
    (2, 1),
    (2, 2),
    (3, 2),
    (4, 4),
    (6, 6),
    (8, 4),
    (10, 4),
    (17, 3),
    // The corners of what is allowed.
    (31, 1),
    (30, 2),
];

pub fn codec(k: usize, m: usize, matrix: MatrixId) -> Codec {
    Codec::new(k, m, matrix).expect("a shape inside the limits")
}

/// Bytes from a seed (splitmix64).
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    });
    words.flat_map(u64::to_le_bytes).take(len).collect()
}

/// All `k + m` shards of random data, encoded.
pub fn stripe(codec: &Codec, seed: u64, len: usize) -> Vec<Vec<u8>> {
    let mut shards: Vec<Vec<u8>> =
        (0..codec.data_count() as u64).map(|index| bytes(seed.wrapping_add(index << 32), len)).collect();
    let mut parity = vec![vec![0xEE; len]; codec.parity_count()];
    codec.encode(&slices(&shards), &mut slices_mut(&mut parity)).expect("shapes fit");
    shards.extend(parity);
    shards
}

pub fn slices(shards: &[Vec<u8>]) -> Vec<&[u8]> {
    shards.iter().map(Vec::as_slice).collect()
}

pub fn slices_mut(shards: &mut [Vec<u8>]) -> Vec<&mut [u8]> {
    shards.iter_mut().map(Vec::as_mut_slice).collect()
}

/// The shards at `indices`, each with its index.
pub fn pick<'a>(shards: &'a [Vec<u8>], indices: &[usize]) -> Vec<(usize, &'a [u8])> {
    indices.iter().map(|&index| (index, shards[index].as_slice())).collect()
}

/// Buffers for the shards at `indices`, each with its index.
pub fn label<'a>(buffers: &'a mut [Vec<u8>], indices: &[usize]) -> Vec<(usize, &'a mut [u8])> {
    assert_eq!(buffers.len(), indices.len());
    indices.iter().copied().zip(slices_mut(buffers)).collect()
}

/// Calls `visit` with every way to choose `count` of `0..total`, as (chosen, left out).
pub fn each_subset(total: usize, count: usize, mut visit: impl FnMut(&[usize], &[usize])) {
    let mut chosen: Vec<usize> = (0..count).collect();
    loop {
        let left_out: Vec<usize> = (0..total).filter(|index| !chosen.contains(index)).collect();
        visit(&chosen, &left_out);
        // The next subset in lexicographic order: advance the last index that still can.
        let Some(place) = (0..count).rev().find(|&place| chosen[place] < total - count + place) else {
            return;
        };
        chosen[place] += 1;
        for later in place + 1..count {
            chosen[later] = chosen[later - 1] + 1;
        }
    }
}

#[test]
fn subsets_are_complete() {
    let mut seen = std::collections::BTreeSet::new();
    each_subset(6, 3, |chosen, left_out| {
        assert_eq!((chosen.len(), left_out.len()), (3, 3));
        assert!(seen.insert(chosen.to_vec()));
    });
    assert_eq!(seen.len(), 20);
}
