//! Buffers and pools: shapes, bounds in pairs, and that memory comes back.

use super::{AlignedBuffer, Pool, PoolError, SizeClass};
use crate::limits::{BLOCK_LEN_BYTES, BUFFER_LEN_BYTES_MAX, POOL_CLASS_LEN_BYTES_MAX};

fn pool() -> Pool {
    Pool::new(&[
        SizeClass { len_bytes: BLOCK_LEN_BYTES, count: 2 },
        SizeClass { len_bytes: 4 * BLOCK_LEN_BYTES, count: 1 },
    ])
    .unwrap()
}

#[test]
fn a_buffer_is_aligned_and_zero() {
    for blocks in [0, 1, 3, 1024] {
        let buffer = AlignedBuffer::zeroed(blocks * BLOCK_LEN_BYTES);
        assert_eq!(buffer.len(), blocks * BLOCK_LEN_BYTES);
        assert_eq!(buffer.as_ptr() as usize % BLOCK_LEN_BYTES, 0);
        assert!(buffer.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn lengths_are_bounded_and_whole_blocks() {
    assert!(AlignedBuffer::try_zeroed(BUFFER_LEN_BYTES_MAX).is_ok());
    assert!(AlignedBuffer::try_zeroed(BUFFER_LEN_BYTES_MAX + BLOCK_LEN_BYTES).is_err());
    assert!(AlignedBuffer::try_zeroed(BLOCK_LEN_BYTES - 1).is_err());
    assert!(AlignedBuffer::try_zeroed(BLOCK_LEN_BYTES + 1).is_err());
}

#[test]
fn a_copy_is_padded_with_zeros() {
    let buffer = AlignedBuffer::copy_of(&[7; 5000]).unwrap();
    assert_eq!(buffer.len(), 8192);
    assert!(buffer[..5000].iter().all(|byte| *byte == 7));
    assert!(buffer[5000..].iter().all(|byte| *byte == 0));
    assert_eq!(AlignedBuffer::copy_of(&[]).unwrap().len(), 0);
}

#[test]
fn bytes_share_the_memory() {
    let mut buffer = AlignedBuffer::zeroed(8192);
    buffer[4096] = 9;
    let address = buffer.as_ptr();
    buffer.truncate(8192);
    let bytes = buffer.into_bytes();
    assert_eq!(bytes.as_ptr(), address);
    assert_eq!(bytes.slice(4096..4097)[0], 9);
}

#[test]
fn a_pool_never_grows_and_gets_buffers_back() {
    let pool = pool();
    let first = pool.take(BLOCK_LEN_BYTES).unwrap();
    let second = pool.take(BLOCK_LEN_BYTES).unwrap();
    assert_ne!(first.as_ptr(), second.as_ptr());
    // A larger class is free, and stays so.
    assert!(matches!(pool.take(BLOCK_LEN_BYTES), Err(PoolError::Busy { class_len_bytes: 4096, count: 2 })));
    let large = pool.take(2 * BLOCK_LEN_BYTES).unwrap();
    assert_eq!(large.len(), 2 * BLOCK_LEN_BYTES);
    assert!(matches!(pool.take(4 * BLOCK_LEN_BYTES), Err(PoolError::Busy { .. })));
    drop(second);
    assert_eq!(pool.available(BLOCK_LEN_BYTES), 1);
    assert!(pool.take(BLOCK_LEN_BYTES).is_ok());
}

#[test]
fn pool_lengths_are_refused_outside_of_every_class() {
    let pool = pool();
    assert!(pool.take(4 * BLOCK_LEN_BYTES).is_ok());
    assert!(matches!(pool.take(5 * BLOCK_LEN_BYTES), Err(PoolError::Len { len_bytes_max: 16384, .. })));
    assert!(matches!(pool.take(100), Err(PoolError::Len { .. })));
}

#[test]
fn pool_classes_are_checked() {
    let class = |len_bytes, count| SizeClass { len_bytes, count };
    let refused = |classes: &[SizeClass]| matches!(Pool::new(classes), Err(PoolError::Classes { .. }));
    assert!(refused(&[]));
    assert!(refused(&[class(4096, 0)]));
    assert!(refused(&[class(4097, 1)]));
    assert!(refused(&[class(8192, 1), class(4096, 1)]));
    assert!(refused(&[class(4096, usize::MAX)]));
    assert!(Pool::new(&[class(4096, POOL_CLASS_LEN_BYTES_MAX / 4096)]).is_ok());
    assert!(refused(&[class(4096, POOL_CLASS_LEN_BYTES_MAX / 4096 + 1)]));
    let eight: Vec<_> = (1..=8).map(|blocks| class(blocks * 4096, 1)).collect();
    assert!(Pool::new(&eight).is_ok());
    let nine: Vec<_> = (1..=9).map(|blocks| class(blocks * 4096, 1)).collect();
    assert!(refused(&nine));
}

#[test]
fn memory_of_a_pool_outlives_the_pool_while_bytes_are_shared() {
    let pool = pool();
    let mut buffer = pool.take_zeroed(BLOCK_LEN_BYTES).unwrap();
    buffer.fill(3);
    let bytes = buffer.into_bytes().slice(10..20);
    assert_eq!(pool.available(BLOCK_LEN_BYTES), 1);
    let again = pool.clone();
    drop(pool);
    assert_eq!(bytes.as_ref(), [3; 10]);
    drop(bytes);
    assert_eq!(again.available(BLOCK_LEN_BYTES), 2);
}

#[test]
fn buffers_of_a_pool_do_not_overlap() {
    let pool = Pool::new(&[SizeClass { len_bytes: 8192, count: 16 }]).unwrap();
    let mut buffers: Vec<_> = (0..16).map(|_| pool.take(8192).unwrap()).collect();
    for (mark, buffer) in (1u8..).zip(buffers.iter_mut()) {
        buffer.fill(mark);
    }
    for (mark, buffer) in (1u8..).zip(buffers.iter()) {
        assert!(buffer.iter().all(|byte| *byte == mark));
    }
}
