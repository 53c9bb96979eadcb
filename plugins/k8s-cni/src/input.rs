//! Standard input, which a runtime may leave open or never write to.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::deadline::Deadline;
use crate::failure::{Code, Failure};

/// Largest configuration read: an earlier result of a chain with hundreds of routes fits many times.
pub const INPUT_BYTES_MAX: usize = 1024 * 1024;

/// Bytes asked of the kernel at once; what runtimes send fits.
const CHUNK_BYTES: usize = 16 * 1024;

/// Reads up to the end, the bound or the deadline.
pub fn read(from: impl AsFd, deadline: Deadline) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        if !is_readable(&from, deadline).map_err(|error| unreadable(&error))? {
            let waited_ms = deadline.whole().as_millis();
            return Err(Failure::new(Code::Io, format!("standard input has no end after {waited_ms} ms")));
        }
        match rustix::io::read(&from, &mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(len) => bytes.extend_from_slice(chunk.get(..len).unwrap_or_default()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(unreadable(&error.into())),
        }
        if bytes.len() > INPUT_BYTES_MAX {
            let bound = format!("standard input is longer than {INPUT_BYTES_MAX} bytes");
            return Err(Failure::new(Code::Io, bound));
        }
    }
}

/// Waits until a read would not block; false when the time is over.
fn is_readable(from: &impl AsFd, deadline: Deadline) -> io::Result<bool> {
    loop {
        let left = Timespec::try_from(deadline.left()).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(from, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new(Code::Io, "standard input can't be read").because(error)
}
