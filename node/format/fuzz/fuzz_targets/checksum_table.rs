//! Fuzzes `strongroom_format::fuzz::checksum_table`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    strongroom_format::fuzz::checksum_table(data);
});
