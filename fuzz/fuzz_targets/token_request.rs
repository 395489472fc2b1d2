#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nas_cron::fuzzing::token_request(data));
