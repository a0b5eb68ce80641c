//! Failing system calls for a real process: a seccomp filter hands its writes and fsyncs to this one, which answers each
//! with an error or lets it happen. Needs Linux, no rights and no change of the program; children of the process are
//! filtered too, so such a server gets a database that was started by somebody else.

use std::collections::BTreeMap;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};

/// The calls that change or secure a file's content.
const CALLS: [(libc::c_long, Call); 4] = [
    (libc::SYS_fdatasync, Call::Sync),
    (libc::SYS_fsync, Call::Sync),
    (libc::SYS_pwrite64, Call::Write),
    (libc::SYS_fallocate, Call::Write),
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Call {
    Sync,
    /// Writing, and reserving the space for it.
    Write,
}

/// What is done to calls on files whose path contains `path`.
#[derive(Clone, Debug)]
pub struct Rule {
    pub call: Call,
    pub path: &'static str,
    /// Matching calls that still succeed before the rule applies.
    pub after: u64,
    /// The error number to answer; `None`: only the delay.
    pub errno: Option<i32>,
    pub delay: Duration,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    /// Calls that were answered with an error.
    failed: BTreeMap<Call, u64>,
}

/// Faults of a process and of those that replace it after a restart.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

impl Faults {
    pub fn set(&self, rules: Vec<Rule>) {
        self.state().rules = rules;
    }

    pub fn failed(&self, call: Call) -> u64 {
        self.state().failed.get(&call).copied().unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Lets the command install the filter when it starts. Hand the result to [`Faults::watch`] after the spawn.
    pub fn arm(&self, command: &mut Command) -> Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        // SAFETY: between fork and exec only system calls are made, on memory that was made before the fork.
        unsafe { command.pre_exec(move || install(theirs.as_raw_fd())) };
        Ok(ours)
    }

    /// Answers the process's calls on a thread of its own until the process has ended.
    pub fn watch(&self, socket: &UnixStream) -> Result<()> {
        let listener = receive_descriptor(socket).context("the process did not hand over its filter")?;
        let faults = self.clone();
        std::thread::Builder::new().name("system calls".to_owned()).spawn(move || faults.answer_all(&listener))?;
        Ok(())
    }

    fn answer_all(&self, listener: &OwnedFd) {
        loop {
            // SAFETY: the structs are plain numbers, for which zeros are valid and which the kernel asks to be zero; both
            // outlive the calls; the descriptor is open.
            unsafe {
                let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                if libc::poll(&raw mut poll, 1, -1) < 0 || poll.revents & libc::POLLIN == 0 {
                    return;
                }
                let mut call: libc::seccomp_notif = zeroed();
                if libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) != 0 {
                    continue;
                }
                let mut answer: libc::seccomp_notif_resp = zeroed();
                answer.id = call.id;
                match self.decide(&call) {
                    Some(errno) => answer.error = -errno,
                    None => answer.flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1),
                }
                libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer);
            }
        }
    }

    fn decide(&self, call: &libc::seccomp_notif) -> Option<i32> {
        let (_, kind) = *CALLS.iter().find(|(number, _)| *number == libc::c_long::from(call.data.nr))?;
        let mut state = self.state();
        if !state.rules.iter().any(|rule| rule.call == kind) {
            return None;
        }
        let file = std::fs::read_link(format!("/proc/{}/fd/{}", call.pid, call.data.args[0])).ok()?;
        let file = file.to_string_lossy().into_owned();
        let rule = state.rules.iter_mut().find(|rule| rule.call == kind && file.contains(rule.path))?;
        if rule.after > 0 {
            rule.after -= 1;
            return None;
        }
        let (errno, delay) = (rule.errno, rule.delay);
        if errno.is_some() {
            *state.failed.entry(kind).or_default() += 1;
        }
        drop(state);
        std::thread::sleep(delay);
        errno
    }
}

/// Runs in the child before exec: no allocation, no lock.
fn install(socket: RawFd) -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const LENGTH: usize = CALLS.len() + 3;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut program = [step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0); LENGTH];
    // The number of the call is the first field of what a filter looks at.
    program[0] = step(LOAD, 0, 0, 0);
    for (index, (number, _)) in CALLS.iter().enumerate() {
        // A match jumps over the other comparisons and the one return to the last.
        program[1 + index] = step(EQUAL, *number as u32, (CALLS.len() - index) as u8, 0);
    }
    program[LENGTH - 1] = step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0);
    let filter = libc::sock_fprog { len: LENGTH as u16, filter: program.as_mut_ptr() };
    // SAFETY: the pointers are to live values; the calls change this process only, which is about to become another program.
    let listener = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter)
    };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    send_descriptor(socket, listener as RawFd)
}

const CONTROL_BYTES: usize = 64;

/// A control buffer has to be aligned as its header is.
#[repr(align(8))]
struct Control([u8; CONTROL_BYTES]);

fn send_descriptor(socket: RawFd, descriptor: RawFd) -> io::Result<()> {
    let mut byte = [1u8];
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: the header points to live, large enough and aligned buffers.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor);
        if libc::sendmsg(socket, &raw const message, 0) == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn receive_descriptor(socket: &UnixStream) -> Result<OwnedFd> {
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut byte = [0u8];
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: as above; a descriptor that arrives belongs to nobody else.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES as _;
        if libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) != 1 {
            return Err(io::Error::last_os_error().into());
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        anyhow::ensure!(!header.is_null() && (*header).cmsg_type == libc::SCM_RIGHTS, "no descriptor came");
        Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()))
    }
}
