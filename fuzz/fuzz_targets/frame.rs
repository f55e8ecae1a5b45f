//! Segments and frames of the commit log.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    resurge_fuzz::frame(input);
});
