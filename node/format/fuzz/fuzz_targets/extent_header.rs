//! Fuzzes `strongroom_format::fuzz::extent_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    strongroom_format::fuzz::extent_header(data);
});
