#![no_main]

// The decoder contains the Arrow reader's panics, and what it contains is no finding; one that gets out still ends the run,
// because it cannot pass the fuzzer's own frames.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| ())),
    |input: &[u8]| rollcall_fuzz::checks::arrow_ipc(input)
);
