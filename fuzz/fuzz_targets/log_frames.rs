#![no_main]

// As in arrow_ipc: what the decoder contains is no finding.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| ())),
    |input: &[u8]| rollcall_fuzz::checks::log_frames(input)
);
