//! Fuzzes `strongroom_format::fuzz::row_payload`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    strongroom_format::fuzz::row_payload(data);
});
