//! Opening a TUN device and the calls that configure it through its descriptor.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;

use super::TunError;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// What the kernel need not do before it hands a packet over.
pub(super) mod offload {
    /// Fill in transport checksums and cut TCP trains.
    pub(crate) const TCP: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    /// Cut UDP trains; the kernel takes both families or neither.
    pub(crate) const UDP: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;
}

/// Whether a link can have this name.
pub(super) fn check_name(name: &str) -> Result<(), TunError> {
    let valid = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':' && byte != b'%';
    let bounded = !name.is_empty() && name.len() < libc::IFNAMSIZ && name != "." && name != "..";
    if bounded && name.bytes().all(valid) { Ok(()) } else { Err(TunError::BadName { name: name.to_owned() }) }
}

/// Makes the device of that name. A persistent one that nobody holds is a leftover and replaced.
pub(super) fn create(name: &str, flags: libc::c_int) -> Result<File, TunError> {
    match attach(name, flags | libc::IFF_TUN_EXCL) {
        Err(TunError::NameTaken { .. }) => {
            remove_leftover(name)?;
            attach(name, flags | libc::IFF_TUN_EXCL)
        }
        made => made,
    }
}

/// Takes the device of that name, or makes it: one descriptor, one queue.
pub(super) fn attach(name: &str, flags: libc::c_int) -> Result<File, TunError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(CLONE_DEVICE)
        .map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TunError::NoDriver(source),
            Some(libc::EPERM | libc::EACCES) => TunError::NotPermitted(source),
            _ => TunError::Io { name: name.to_owned(), source },
        })?;
    let mut request = interface(name, libc::IFF_TUN | libc::IFF_NO_PI | flags);
    exchange(&file, libc::TUNSETIFF, &mut request).map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => TunError::NotPermitted(source),
        // Busy: held by a process. Invalid: a link of another kind.
        Some(libc::EBUSY | libc::EINVAL | libc::EEXIST) => TunError::NameTaken { name: name.to_owned() },
        _ => TunError::Io { name: name.to_owned(), source },
    })?;
    Ok(file)
}

fn remove_leftover(name: &str) -> Result<(), TunError> {
    // The kernel wants to be asked in the way the device was made.
    let leftover = attach(name, libc::IFF_MULTI_QUEUE).or_else(|_| attach(name, 0))?;
    let failed = |source| TunError::Io { name: name.to_owned(), source };
    if !is_persistent(&leftover).map_err(failed)? {
        // It is there because a process holds it: a device of several queues lets anybody join.
        return Err(TunError::NameTaken { name: name.to_owned() });
    }
    set_by_value(&leftover, libc::TUNSETPERSIST, 0).map_err(failed)
}

/// Says what the whole device, not just this queue, hands over unfinished.
pub(super) fn set_offloads(file: &File, mask: libc::c_uint) -> io::Result<()> {
    set_by_value(file, libc::TUNSETOFFLOAD, libc::c_ulong::from(mask))
}

#[expect(unsafe_code, reason = "every variant of the union is plain bytes, and the kernel set this one")]
fn is_persistent(file: &File) -> io::Result<bool> {
    let mut request = interface("", 0);
    exchange(file, libc::TUNGETIFF, &mut request)?;
    // SAFETY: `ifru_flags` was initialised above, and any bytes the kernel put there are a valid number.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(libc::c_int::from(flags) & libc::IFF_PERSIST != 0)
}

fn interface(name: &str, flags: libc::c_int) -> libc::ifreq {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short },
    };
    // The last byte stays zero: the kernel reads the name up to it.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

#[expect(unsafe_code, reason = "the TUN driver's requests have no safe binding")]
fn exchange(file: &File, kind: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call. Both callers' requests, TUNSETIFF and TUNGETIFF, read
    // and write at most one `ifreq`, which is exclusively borrowed.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), kind, request) };
    Errno::result(result).map(|_| ()).map_err(io::Error::from)
}

#[expect(unsafe_code, reason = "the TUN driver's requests have no safe binding")]
fn set_by_value(file: &File, kind: libc::Ioctl, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call. Both callers' requests, TUNSETPERSIST and
    // TUNSETOFFLOAD, take the argument as a number: the kernel follows no pointer.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), kind, value) };
    Errno::result(result).map(|_| ()).map_err(io::Error::from)
}
