//! Fuzzes `strongroom_format::fuzz::seal_mark`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    strongroom_format::fuzz::seal_mark(data);
});
