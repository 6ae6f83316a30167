use super::{append, crc32c};

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x5EED_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn it_is_that_of_the_crate_at_every_length_and_place() {
    let bytes = noise(6000);
    for len in (0..1600).chain([4095, 4096, 4097, 5000]) {
        let place = len * 7 % 64;
        let part = &bytes[place..place + len];
        assert_eq!(crc32c(part), ::crc32c::crc32c(part), "{len} bytes at {place}");
    }
}

#[test]
fn it_goes_on_where_it_was() {
    let bytes = noise(6000);
    for cut in [0, 1, 511, 512, 513, 767, 768, 3000, 5999, 6000] {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(append(crc32c(front), back), ::crc32c::crc32c(&bytes), "cut at {cut}");
    }
}

/// The check value of the catalogue of CRCs, and those of RFC 3720, B.4.
#[test]
fn it_is_castagnolis() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
}
