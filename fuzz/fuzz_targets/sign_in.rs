#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nas_cron::fuzzing::sign_in(data));
