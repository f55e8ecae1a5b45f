//! The super file of a store.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    resurge_fuzz::store("super", input);
});
