use super::{Md5, Update, update_all};
use md5::Digest as _;
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert_eq, proptest};

fn expected(bytes: &[u8]) -> [u8; 16] {
    md5::Md5::digest(bytes).into()
}

fn noise(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|place| (place.wrapping_mul(2_654_435_761) >> 7) as u8 ^ seed as u8).collect()
}

#[test]
fn every_length_is_that_of_the_crate() {
    for len in 0..400 {
        let bytes = noise(len, len);
        let mut message = Md5::default();
        message.update(&bytes);
        assert_eq!(message.finish(), expected(&bytes), "{len} bytes");
    }
}

/// RFC 1321, A.5.
#[test]
fn it_is_that_of_the_rfc() {
    let hex = |bytes: [u8; 16]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(Md5::default().finish()), "d41d8cd98f00b204e9800998ecf8427e");
    let mut message = Md5::default();
    message.update(b"message ");
    message.update(b"digest");
    assert_eq!(hex(message.finish()), "f96b697d7cb7938d525a2f31aaf161d0");
}

/// As many messages as given, in pieces of any length, side by side.
fn side_by_side(pieces: &[Vec<usize>], update: impl Fn(&mut [Update<'_>])) {
    let bodies: Vec<Vec<u8>> =
        pieces.iter().enumerate().map(|(seed, lens)| noise(lens.iter().sum(), seed)).collect();
    let mut messages = vec![Md5::default(); bodies.len()];
    let mut left: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    for round in 0..pieces.iter().map(Vec::len).max().unwrap_or(0) {
        let mut updates = Vec::new();
        for ((message, left), lens) in messages.iter_mut().zip(&mut left).zip(pieces) {
            if let Some(&len) = lens.get(round) {
                updates.push(Update { message, bytes: left.split_off(..len).unwrap() });
            }
        }
        update(&mut updates);
    }
    for (message, body) in messages.into_iter().zip(&bodies) {
        assert_eq!(message.finish(), expected(body), "{} bytes", body.len());
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    #[test]
    fn messages_side_by_side_are_those_of_the_crate(pieces in vec(vec(0usize..700, 0..4), 0..40)) {
        side_by_side(&pieces, update_all);
    }

    #[test]
    fn pieces_of_one_message_are_one_message(bytes in vec(any::<u8>(), 0..1000), cut in 0usize..1000) {
        let (front, back) = bytes.split_at(cut.min(bytes.len()));
        let mut message = Md5::default();
        message.update(front);
        message.update(back);
        prop_assert_eq!(message.finish(), expected(&bytes));
    }
}

/// Each way that this machine has, with fewer messages than lanes, as many, and more.
#[test]
fn every_way_to_hash_side_by_side_agrees() {
    for count in [1, 2, 7, 8, 9, 15, 16, 17, 40] {
        let pieces: Vec<Vec<usize>> =
            (0..count).map(|index| vec![index * 97 % 300, 64 * index, 1000]).collect();
        for (_, side) in super::sides() {
            side_by_side(&pieces, |updates| super::side_by_side(side, updates));
        }
        side_by_side(&pieces, |updates| {
            updates.iter_mut().for_each(|update| update.message.update(update.bytes));
        });
    }
}
