//! Fuzzes `strongroom_format::fuzz::row_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    strongroom_format::fuzz::row_header(data);
});
