#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracker_fuzz::cluster::run(bytes));
