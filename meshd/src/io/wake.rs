//! Waiting for a file descriptor, a deadline or the end.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Ends every wait on the [`StopWatch`] it came with, by being dropped.
#[derive(Debug)]
pub struct StopSignal {
    _writer: PipeWriter,
}

/// Sees the end of its [`StopSignal`].
#[derive(Debug, Clone)]
pub struct StopWatch {
    reader: Arc<PipeReader>,
}

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The end has come.
    Stopped,
    /// Time is up.
    TimedOut,
    /// The descriptor is ready.
    Ready(Readiness),
}

/// How a descriptor is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// There is something to read.
    Readable,
    /// It failed for good.
    Broken,
}

impl StopSignal {
    /// A signal and its watch.
    pub fn new() -> io::Result<(Self, StopWatch)> {
        let (reader, writer) = io::pipe()?;
        Ok((Self { _writer: writer }, StopWatch { reader: Arc::new(reader) }))
    }
}

/// Waits until `fd` is readable, `timeout` is over (never, if `None`), or the end has come.
pub fn wait(fd: BorrowedFd<'_>, stop: &StopWatch, timeout: Option<Duration>) -> io::Result<Awaited> {
    let timeout = match timeout {
        // One more than the rounded-down value: waking early would spin until the deadline.
        Some(timeout) => {
            let ms = u16::try_from(timeout.as_millis().saturating_add(1)).unwrap_or(u16::MAX);
            PollTimeout::from(ms)
        }
        None => PollTimeout::NONE,
    };
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN), PollFd::new(stop.reader.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, timeout) {
        Ok(0) | Err(Errno::EINTR) => return Ok(Awaited::TimedOut),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let [data, end] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
    if !end.is_empty() {
        Ok(Awaited::Stopped)
    } else if data.contains(PollFlags::POLLIN) {
        Ok(Awaited::Ready(Readiness::Readable))
    } else if data.is_empty() {
        Ok(Awaited::TimedOut)
    } else {
        Ok(Awaited::Ready(Readiness::Broken))
    }
}
