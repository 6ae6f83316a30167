//! Fuzzes `strongroom_format::fuzz::cold_mark`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    strongroom_format::fuzz::cold_mark(data);
});
