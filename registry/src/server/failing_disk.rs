//! The server on a disk that fills up and empties again.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, StorageBackend};

use crate::server::authorise::{Authorise, ClientKey, Denied, Op};
use crate::server::journal::Journal;
use crate::server::{EmbeddedServer, Limits};
use crate::{CallError, Event, Registry, Rev};

/// A file in memory that refuses to be written while the disk is full.
#[derive(Clone, Debug, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        work(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_writes(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|bytes| bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|bytes| {
            let part = bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(part);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.take_writes()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.with(|bytes| bytes.resize(len, 0));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.take_writes()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.take_writes()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|bytes| {
            let part = bytes.get_mut(start..start + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            part.copy_from_slice(data);
            Ok(())
        })
    }
}

struct AllowAll;

impl Authorise for AllowAll {
    fn allows(&self, _: &ClientKey, _: Op<'_>) -> Result<(), Denied> {
        Ok(())
    }
}

async fn open(disk: &Disk) -> (EmbeddedServer, Registry) {
    let disk = disk.clone();
    let opener = Box::new(move || Database::builder().create_with_backend(disk.clone()));
    let (journal, loaded) = Journal::open_with(PathBuf::from("disk"), opener).expect("journal opens");
    let server = EmbeddedServer::start(journal, loaded, Limits::default()).expect("server starts");
    let local = server.local(ClientKey::NONE, Arc::new(AllowAll));
    let registry = Registry::connect(vec![local]).await.expect("endpoint is valid");
    (server, registry)
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_serves_reads_until_there_is_room() {
    let disk = Disk::default();
    let (server, registry) = open(&disk).await;
    let before = registry.put("/a", "1", None).await.expect("put");
    let mut watch = registry.watch("/", before.next());
    assert_eq!(watch.next().await, Some(Event::Connected));

    disk.full.store(true, Ordering::SeqCst);
    let first = registry.put("/a", "2", None).await;
    assert!(matches!(first, Err(CallError::Full { .. })), "{first:?}");
    for _ in 0..3 {
        assert!(registry.put("/b", "2", None).await.is_err(), "still full");
        assert_eq!(registry.get("/a").await.expect("reads go on").expect("key").value, "1");
    }

    disk.full.store(false, Ordering::SeqCst);
    let after = loop {
        match registry.put("/a", "3", None).await {
            Ok(rev) => break rev,
            // The file is opened again only now and then.
            Err(error) => assert!(!error.is_unreachable(), "{error}"),
        }
    };
    let Some(Event::Put(entry)) = watch.next().await else { panic!("watch broke") };
    assert_eq!((entry.value.as_ref(), entry.modified), (&b"3"[..], after));
    assert_eq!(after, before.next(), "refused changes leave no trace");

    server.close().await;
    let (_server, registry) = open(&disk).await;
    let listing = registry.list_all("/").await.expect("list");
    assert_eq!((listing.rev, listing.entries.len()), (after, 1));
    assert!(listing.rev > Rev::ZERO);
}
