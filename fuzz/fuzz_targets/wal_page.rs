//! Pages and head of a write-ahead log.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    resurge_fuzz::wal_page(input);
});
