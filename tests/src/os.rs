//! The two system interfaces that Rust can't call safely; all `unsafe` of the lab is here.
#![expect(unsafe_code, reason = "work between fork and exec, and the ioctl that attaches to a TUN device")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};

/// Makes the process that `command` starts enter a network namespace, lead its own process group, and die with the
/// thread that started it.
pub(crate) fn enter_before_exec(command: &mut Command, namespace: Option<File>) {
    let parent = getpid();
    command.process_group(0);
    let enter = move || -> io::Result<()> {
        if let Some(namespace) = &namespace {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
        }
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above took effect.
        if getppid() != parent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    // SAFETY: the closure makes three system calls and compares two numbers; it neither allocates nor takes a lock,
    // so it may run between fork and exec of a process with several threads.
    unsafe { command.pre_exec(enter) };
}

/// Attaches to a TUN device of the calling thread's network namespace; created if absent.
pub(crate) fn open_tun(name: &str) -> io::Result<File> {
    let bytes = name.as_bytes();
    if bytes.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: all bits zero are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    // Both flags lie below 2^15.
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and `request` is a valid `ifreq` that outlives the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}
