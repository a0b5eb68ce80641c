//! Readiness of many sockets and of one timer, with as little work as the kernel permits: the load shares the cores with
//! what it measures.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// The token of the timer.
pub const TIMER: u64 = u64::MAX;

const EVENTS_MAX: usize = 256;

pub struct Epoll {
    fd: OwnedFd,
    timer: Option<OwnedFd>,
    events: Vec<libc::epoll_event>,
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no preconditions; the descriptor is new and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(checked(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { fd, timer: None, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Tells of input, and of output too when `output` says so. Level-triggered.
    pub fn add(&self, fd: RawFd, token: u64, output: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, output)
    }

    pub fn change(&self, fd: RawFd, token: u64, output: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, output)
    }

    fn control(&self, what: libc::c_int, fd: RawFd, token: u64, output: bool) -> io::Result<()> {
        let events = libc::EPOLLIN as u32 | if output { libc::EPOLLOUT as u32 } else { 0 };
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: the event outlives the call.
        checked(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, fd, &raw mut event) }).map(drop)
    }

    /// Wakes [`Epoll::wait`] with [`TIMER`] again and again.
    pub fn tick(&mut self, every: Duration) -> io::Result<()> {
        let time = libc::timespec { tv_sec: every.as_secs() as libc::time_t, tv_nsec: every.subsec_nanos().into() };
        let spec = libc::itimerspec { it_interval: time, it_value: time };
        // SAFETY: the descriptor is new and ours; the specification outlives the call.
        let timer = unsafe {
            let fd = OwnedFd::from_raw_fd(checked(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC))?);
            checked(libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()))?;
            fd
        };
        self.add(timer.as_raw_fd(), TIMER, false)?;
        self.timer = Some(timer);
        Ok(())
    }

    /// Tokens that are ready, and whether for output; empty when the time is over.
    pub fn wait(&mut self, timeout: Duration, ready: &mut Vec<(u64, bool)>) -> io::Result<()> {
        ready.clear();
        let millis = timeout.as_millis().clamp(1, 60_000) as libc::c_int;
        // SAFETY: the buffer has room for EVENTS_MAX events, and as many as the call says are written by it.
        unsafe {
            let count = libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), EVENTS_MAX as libc::c_int, millis);
            match checked(count) {
                Ok(count) => self.events.set_len(count as usize),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        for event in &self.events {
            if event.u64 == TIMER
                && let Some(timer) = &self.timer
            {
                let mut expired = [0u8; 8];
                // SAFETY: the buffer has the eight bytes that a timer writes.
                unsafe { libc::read(timer.as_raw_fd(), expired.as_mut_ptr().cast(), 8) };
            }
            ready.push((event.u64, event.events & libc::EPOLLOUT as u32 != 0));
        }
        Ok(())
    }
}
