#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tearless_fuzz::targets::card(data));
