//! Waiting for descriptors, a deadline or a call from another thread.
//!
//! The data threads try their I/O first and wait only when there is nothing to do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Descriptors of one [`Events`]: a thread waits for its device, its socket and little else.
pub const SOURCES_MAX: usize = 8;

/// The number by which epoll names the waker.
const WAKER: u64 = u64::MAX;

/// Ends the wait of the [`Events`] it was given to, from any thread.
#[derive(Debug, Clone)]
pub struct Waker {
    event: Arc<EventFd>,
}

/// What one thread waits for. It holds no descriptor open but its waker.
#[derive(Debug)]
pub struct Events {
    epoll: Epoll,
    waker: Waker,
}

/// What a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Readable,
    /// Room to write.
    Writable,
}

/// What a wait ended with; nothing of it if time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wakeup {
    /// Whether somebody called [`Waker::wake`]; several calls may count as one.
    pub woken: bool,
    ready: u8,
}

impl Waker {
    /// A waker that nobody has called yet.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { event: Arc::new(event) })
    }

    /// Ends the current wait, or the next one.
    pub fn wake(&self) {
        // It fails only when 2^64 - 2 calls are pending: awake enough.
        let _ = self.event.write(1);
    }

    fn heed(&self) {
        // It fails only when another wait of the same waker was faster.
        let _ = self.event.read();
    }
}

impl Events {
    /// Waits for `waker` and for `sources`, which are told apart by their position.
    pub fn new(waker: &Waker, sources: &[(BorrowedFd<'_>, Interest)]) -> io::Result<Self> {
        if sources.len() > SOURCES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(waker.event.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, WAKER))?;
        for (position, (fd, interest)) in sources.iter().enumerate() {
            let flags = match interest {
                Interest::Readable => EpollFlags::EPOLLIN,
                Interest::Writable => EpollFlags::EPOLLOUT,
            };
            epoll.add(fd, EpollEvent::new(flags, position as u64))?;
        }
        Ok(Self { epoll, waker: waker.clone() })
    }

    /// Waits until something happens or `timeout` is over (never, if `None`).
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Wakeup> {
        let timeout = match timeout {
            Some(Duration::ZERO) => EpollTimeout::ZERO,
            // One more than the rounded-down value: waking early would spin until the deadline.
            Some(timeout) => {
                let ms = timeout.as_millis().saturating_add(1);
                EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::MAX)
            }
            None => EpollTimeout::NONE,
        };
        let mut events = [EpollEvent::empty(); SOURCES_MAX + 1];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut wakeup = Wakeup { woken: false, ready: 0 };
        for event in events.iter().take(count) {
            if event.data() == WAKER {
                self.waker.heed();
                wakeup.woken = true;
            } else {
                wakeup.ready |= 1 << event.data();
            }
        }
        Ok(wakeup)
    }
}

impl Wakeup {
    /// Whether the source at this position is worth a try. Also when it failed: the try tells how.
    pub fn is_ready(&self, position: usize) -> bool {
        position < SOURCES_MAX && self.ready & (1 << position) != 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    const TIME_WAS_UP: Wakeup = Wakeup { woken: false, ready: 0 };

    #[test]
    fn a_wait_ends_by_time_by_call_and_by_what_it_waits_for() {
        let waker = Waker::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let events = Events::new(
            &waker,
            &[(waker.event.as_fd(), Interest::Readable), (socket.as_fd(), Interest::Readable)],
        );
        assert!(events.is_err(), "a descriptor is watched once");
        let events = Events::new(&waker, &[(socket.as_fd(), Interest::Readable)]).unwrap();
        assert_eq!(events.wait(Some(Duration::ZERO)).unwrap(), TIME_WAS_UP);
        assert_eq!(events.wait(Some(Duration::from_millis(1))).unwrap(), TIME_WAS_UP);

        let other = waker.clone();
        let caller = std::thread::spawn(move || other.wake());
        let wakeup = events.wait(None).unwrap();
        caller.join().unwrap();
        assert!(wakeup.woken && !wakeup.is_ready(0));
        assert_eq!(events.wait(Some(Duration::ZERO)).unwrap(), TIME_WAS_UP, "a call counts once");

        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        let wakeup = events.wait(None).unwrap();
        assert!(wakeup.is_ready(0) && !wakeup.is_ready(1) && !wakeup.woken);
    }

    #[test]
    fn room_to_write_is_there_at_once() {
        let waker = Waker::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let events = Events::new(&waker, &[(socket.as_fd(), Interest::Writable)]).unwrap();
        assert!(events.wait(None).unwrap().is_ready(0));
    }

    #[test]
    fn more_sources_than_a_thread_has_are_refused() {
        let waker = Waker::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sources = [(socket.as_fd(), Interest::Readable); SOURCES_MAX + 1];
        assert_eq!(Events::new(&waker, &sources).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
