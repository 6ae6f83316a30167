//! Fuzzes `strongroom_format::fuzz::superblock`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    strongroom_format::fuzz::superblock(data);
});
