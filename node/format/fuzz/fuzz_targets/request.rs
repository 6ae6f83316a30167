//! Fuzzes `strongroom_format::fuzz::request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    strongroom_format::fuzz::request(data);
});
