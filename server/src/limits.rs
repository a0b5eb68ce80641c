//! The process's limit on open files.

/// How many files and connections the server may have open, once it has raised its limit.
pub fn descriptors_max() -> u64 {
    read().map_or(0, |limit| limit.rlim_max)
}

/// Raises the limit to what the system allows; each connection of a device needs one. Failing to is no error: the limit
/// on connections then has less room, and `doctor` says so.
pub fn raise_descriptors() {
    if let Some(mut limit) = read() {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer is to a valid rlimit that outlives the call.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

fn read() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a valid rlimit that outlives the call.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0).then_some(limit)
}
