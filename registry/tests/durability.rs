//! Nothing that the embedded server has acknowledged is lost when its process is killed.

use std::collections::BTreeMap;
use std::env;
use std::hash::{BuildHasher, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use meshd_registry::server::{Authorise, ClientKey, Denied, EmbeddedServer, Limits, Op, Quota};
use meshd_registry::{Registry, Rev};

/// Tells the process under test which file to write to.
const FILE_VARIABLE: &str = "REGISTRY_DURABILITY_FILE";
const KILLS: usize = 20;
/// Acknowledgements before the kill, at most.
const ACKNOWLEDGED_MAX: u64 = 300;
/// Writers at once, so that commits carry several changes.
const WRITERS: usize = 4;

struct AllowAll;

impl Authorise for AllowAll {
    fn allows(&self, _: &ClientKey, _: Op<'_>) -> Result<(), Denied> {
        Ok(())
    }

    fn quota(&self, _: &ClientKey) -> Quota {
        Quota::UNLIMITED
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_kills_at_random_moments() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join("registry.redb");
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut last_rev = Rev::ZERO;
    for round in 0..KILLS {
        let limit = dice() % ACKNOWLEDGED_MAX + 1;
        let (count, rev) = write_until_killed(&file, round, limit, &mut acknowledged);
        assert!(count >= limit, "the writer ended by itself after {count} of {limit} acknowledgements");
        last_rev = last_rev.max(rev);

        let (server, registry) = open(&file).await;
        let listing = registry.list_all("").await.expect("list");
        assert!(listing.rev >= last_rev, "revision went back from {last_rev} to {}", listing.rev);
        let stored: BTreeMap<&[u8], u64> =
            listing.entries.iter().map(|entry| (entry.key.as_ref(), entry.modified.number())).collect();
        for (key, rev) in &acknowledged {
            assert_eq!(stored.get(key.as_bytes()), Some(rev), "{key} was acknowledged, round {round}");
        }
        drop(registry);
        server.close().await;
    }
    assert!(acknowledged.len() >= KILLS);
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "the process that the test above kills"]
async fn writer_to_be_killed() {
    let Some(file) = env::var_os(FILE_VARIABLE).map(PathBuf::from) else { return };
    let (_server, registry) = open(&file).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let registry = registry.clone();
        writers.spawn(async move {
            for number in 0u64.. {
                let key = format!("{}-{writer}-{number}", std::process::id());
                let rev = registry.put(&key, vec![b'v'; 600], None).await.expect("put");
                println!("{key} {rev}");
                std::io::stdout().flush().expect("the test reads");
            }
        });
    }
    writers.join_all().await;
}

/// Runs the writer until it has acknowledged `limit` changes, kills it, and notes all that it had acknowledged.
fn write_until_killed(
    file: &Path,
    round: usize,
    limit: u64,
    acknowledged: &mut BTreeMap<String, u64>,
) -> (u64, Rev) {
    let mut writer = Writer(
        Command::new(env::current_exe().expect("own program"))
            .args(["--exact", "writer_to_be_killed", "--ignored", "--nocapture"])
            .env(FILE_VARIABLE, file)
            .stdout(Stdio::piped())
            .spawn()
            .expect("own program runs"),
    );
    let output = writer.0.stdout.take().expect("output is piped");
    let (mut count, mut last) = (0, Rev::ZERO);
    for line in BufReader::new(output).lines() {
        let line = line.expect("output is text");
        // Besides acknowledgements there are lines of the test harness; a last line may be cut short.
        let Some((key, rev)) = line.split_once(' ') else { continue };
        let Ok(rev) = rev.parse::<u64>() else { continue };
        if !key.contains('-') {
            continue;
        }
        acknowledged.insert(key.to_owned(), rev);
        last = last.max(Rev::new(rev));
        count += 1;
        if count == limit {
            writer.0.kill().unwrap_or_else(|error| panic!("kill in round {round}: {error}"));
        }
    }
    (count, last)
}

/// A child that ends with its owner.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        // Killing a process that has ended already is no error worth telling.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn open(file: &Path) -> (EmbeddedServer, Registry) {
    let server = EmbeddedServer::open(file, Limits::default()).await.expect("registry opens");
    let local = server.local(ClientKey::NONE, Arc::new(AllowAll));
    let registry = Registry::connect(vec![local]).await.expect("endpoint is valid");
    (server, registry)
}

fn dice() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
