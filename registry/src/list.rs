//! Listing, always page by page.

use bytes::Bytes;
use etcd_client::GetOptions;

use crate::client::{Registry, Repeat, revision};
use crate::error::CallError;
use crate::range::KeyRange;
use crate::record::{Rev, Versioned};

/// Most keys in one page: 500 records of usual size are 0.4 MB, far below gRPC's message limits.
pub const PAGE_KEYS_MAX: usize = 500;
/// Most keys of a whole listing: six for each node of the largest mesh.
const LISTING_KEYS_MAX: usize = 6 * 16_384;
/// Most bytes of the keys and values of a whole listing, twice those of the largest mesh.
const LISTING_BYTES_MAX: usize = 64 << 20;
/// A listing whose revision is compacted under it begins anew at most this often.
const RESTARTS_MAX: usize = 3;

/// Which page to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Last key of the page before; none on the first.
    after: Option<Bytes>,
    /// Revision of the whole listing; none on the first page, which sets it.
    rev: Option<Rev>,
    keys_max: usize,
}

impl Page {
    /// The first page.
    pub const fn first() -> Self {
        Self { after: None, rev: None, keys_max: PAGE_KEYS_MAX }
    }

    /// The same page with at most this many keys, between 1 and [`PAGE_KEYS_MAX`].
    #[must_use]
    pub fn keys_max(mut self, keys_max: usize) -> Self {
        self.keys_max = keys_max.clamp(1, PAGE_KEYS_MAX);
        self
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::first()
    }
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// Its keys in order.
    pub entries: Vec<Versioned>,
    /// The revision that the whole listing shows.
    pub rev: Rev,
    /// The page after this one, if any.
    pub next: Option<Page>,
}

/// A whole listing.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Its keys in order.
    pub entries: Vec<Versioned>,
    /// The revision it shows; watch from the next one to miss nothing.
    pub rev: Rev,
}

pub(crate) async fn page(registry: &Registry, prefix: &[u8], page: Page) -> Result<ListPage, CallError> {
    let whole = KeyRange::prefix(prefix);
    let Page { after, rev, mut keys_max } = page;
    let (key, range_end) = match &after {
        Some(after) => whole.after(after).to_wire(),
        None => whole.to_wire(),
    };
    let response = loop {
        let outcome = registry
            .call(Repeat::Harmless, |mut server| {
                let limit = i64::try_from(keys_max).unwrap_or(i64::MAX);
                let mut options = GetOptions::new().with_range(range_end.clone()).with_limit(limit);
                if let Some(rev) = rev {
                    options = options.with_revision(rev.to_wire());
                }
                let key = key.clone();
                async move { server.kv.get(key, Some(options)).await }
            })
            .await;
        match outcome {
            // The values are unusually large: ask for fewer of them. Ends at one key.
            Err(CallError::TooLarge { .. }) if keys_max > 1 => keys_max /= 2,
            other => break other?.0,
        }
    };
    let rev = match rev {
        Some(rev) => rev,
        None => revision(response.header)?,
    };
    let entries: Vec<Versioned> = response.kvs.into_iter().map(Versioned::from).collect();
    let next = match entries.last() {
        Some(last) if response.more => Some(Page { after: Some(last.key.clone()), rev: Some(rev), keys_max }),
        Some(_) | None => None,
    };
    Ok(ListPage { entries, rev, next })
}

pub(crate) async fn all(registry: &Registry, prefix: &[u8]) -> Result<Listing, CallError> {
    let mut restarts = 0;
    loop {
        match all_at_one_revision(registry, prefix).await {
            Err(CallError::Compacted { .. }) if restarts < RESTARTS_MAX => restarts += 1,
            outcome => return outcome,
        }
    }
}

async fn all_at_one_revision(registry: &Registry, prefix: &[u8]) -> Result<Listing, CallError> {
    let ListPage { mut entries, rev, mut next } = page(registry, prefix, Page::first()).await?;
    let mut bytes = size(&entries);
    while let Some(this) = next {
        let more = page(registry, prefix, this).await?;
        bytes += size(&more.entries);
        entries.extend(more.entries);
        refuse_endless(entries.len(), bytes)?;
        next = more.next;
    }
    Ok(Listing { entries, rev })
}

fn size(entries: &[Versioned]) -> usize {
    entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum()
}

/// A registry may say for ever that there is more.
fn refuse_endless(keys: usize, bytes: usize) -> Result<(), CallError> {
    if keys > LISTING_KEYS_MAX || bytes > LISTING_BYTES_MAX {
        return Err(CallError::Malformed { what: "listing that does not end" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{LISTING_BYTES_MAX, LISTING_KEYS_MAX, refuse_endless};

    #[test]
    fn a_listing_ends_at_its_bounds() {
        assert!(refuse_endless(LISTING_KEYS_MAX, LISTING_BYTES_MAX).is_ok());
        assert!(refuse_endless(LISTING_KEYS_MAX + 1, 0).is_err());
        assert!(refuse_endless(1, LISTING_BYTES_MAX + 1).is_err());
    }
}
