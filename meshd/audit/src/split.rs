//! Views of one log held against each other: two notes that exclude each other are evidence.

use meshd_trust::log::{self, Frontier, TILE_WIDTH, TileAddress, TreeHash, TreeHead};
use meshd_wire::OrgId;

use crate::chain::Chain;
use crate::files::{Files, FilesError};
use crate::notes::{self, Believed};
use crate::pages::{self, Content};

/// Two signed notes of one log that exclude each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Organisation whose log it is.
    pub org: OrgId,
    /// Head of one of them.
    pub one: TreeHead,
    /// Head of the other, as large or larger.
    pub other: TreeHead,
    notes: log::Evidence,
}

/// A believed note of a log, and where it came from.
#[derive(Debug, Clone)]
pub struct Held {
    /// Organisation whose log it is.
    pub org: OrgId,
    believed: Believed,
}

/// What a comparison gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SplitView {
    /// Notes compared.
    pub notes: usize,
    /// Notes that exclude each other.
    pub evidence: Vec<Evidence>,
    /// Sizes whose leaves nobody gave, so that their root could not be compared with others.
    pub unproven: Vec<u64>,
}

impl Evidence {
    /// The file that shows it to others.
    pub fn to_text(&self) -> String {
        self.notes.to_string()
    }
}

impl Held {
    /// Believes a note of any organisation of the mesh; none if no log has signed it.
    pub fn of_note(bytes: &[u8], chain: &Chain) -> Option<Self> {
        let orgs: Vec<OrgId> = chain.orgs().map(|(org, _)| org).collect();
        let mut believed = orgs.into_iter().map(|org| (org, notes::believe(bytes, chain, &org)));
        believed.find_map(|(org, believed)| believed.map(|believed| Self { org, believed }))
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        self.believed.verified.checkpoint.head
    }
}

/// Believes all notes of a log's directory.
pub fn gather(files: &dyn Files, chain: &Chain, org: OrgId) -> Result<Vec<Held>, FilesError> {
    let believed = notes::read(files, chain, &org, &mut Vec::new())?;
    Ok(believed.into_iter().map(|believed| Held { org, believed }).collect())
}

/// Compares all notes of one log with each other, through the leaves of whoever has them.
pub fn compare(held: &[Held], sources: &[&dyn Files]) -> Result<SplitView, FilesError> {
    let mut sorted: Vec<&Held> = held.iter().collect();
    sorted.sort_by_key(|one| one.head().size);
    let mut view = SplitView { notes: held.len(), ..SplitView::default() };
    for pair in sorted.windows(2) {
        let [one, other] = pair else { continue };
        if one.head().size == other.head().size && one.head().root != other.head().root {
            view.evidence.push(evidence(one, other));
        }
    }
    let mut sizes: Vec<u64> = sorted.iter().map(|one| one.head().size).collect();
    sizes.dedup();
    // The leaves of a source are a view by themselves if they give the root of a note.
    let mut proven = vec![false; sorted.len()];
    for source in sources {
        let roots = roots(*source, &sizes)?;
        let agrees = |one: &&Held| roots.iter().any(|head| *head == one.head());
        let Some(largest) = sorted.iter().rposition(agrees) else { continue };
        for (at, one) in sorted.iter().enumerate().take(largest + 1) {
            match roots.iter().find(|head| head.size == one.head().size) {
                Some(head) if *head == one.head() => proven[at] = true,
                Some(_) => {
                    proven[at] = true;
                    let found = evidence(one, sorted[largest]);
                    if !view.evidence.iter().any(|known| known.one == found.one || known.other == found.one) {
                        view.evidence.push(found);
                    }
                }
                None => {}
            }
        }
    }
    if sizes.len() > 1 {
        let open = sorted.iter().zip(&proven).filter(|(_, proven)| !**proven);
        view.unproven = open.map(|(one, _)| one.head().size).collect();
        view.unproven.dedup();
    }
    Ok(view)
}

fn evidence(one: &Held, other: &Held) -> Evidence {
    let notes = log::Evidence { notes: [one.believed.note.clone(), other.believed.note.clone()] };
    Evidence { org: one.org, one: one.head(), other: other.head(), notes }
}

/// Heads that the leaves of a directory give at some sizes, sorted.
fn roots(files: &dyn Files, sizes: &[u64]) -> Result<Vec<TreeHead>, FilesError> {
    let mut frontier = Frontier::new();
    let mut heads: Vec<TreeHead> = sizes.iter().filter(|size| **size == 0).map(|_| frontier.head()).collect();
    let largest = sizes.last().copied().unwrap_or(0);
    for index in 0..largest.div_ceil(TILE_WIDTH) {
        let Some(full) = TileAddress::within((index + 1) * TILE_WIDTH, 0, index) else { break };
        let page = pages::widest(files, full, Content::Leaves.path())?;
        let Some(leaves) = page.as_ref().and_then(pages::Page::leaves) else { break };
        for leaf in &leaves {
            frontier.append(TreeHash::leaf(leaf));
            if sizes.binary_search(&frontier.size()).is_ok() {
                heads.push(frontier.head());
            }
        }
        if (leaves.len() as u64) < TILE_WIDTH {
            break;
        }
    }
    Ok(heads)
}
