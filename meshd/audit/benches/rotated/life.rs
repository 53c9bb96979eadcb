//! What the nodes of a mesh do, one leaf after the other.

/// Nodes of the mesh.
pub const NODES: u64 = 1_000;
/// One node rotates at each tick, so each does every 43,000 s, within a period of twelve hours.
pub const TICK_S: u64 = 43;
/// Ticks from an announcement to the use of its key, and to the end of the key before.
const ACTIVATE_TICKS: u64 = 2;
const DESTROY_TICKS: u64 = 20;
/// Rotations between two certificates: half of their life of seven days.
const RENEW_ROUNDS: u64 = 7;

/// What a leaf says of a node, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Invite(u64),
    Join(u64),
    Enrol(u64),
    FirstKey(u64),
    Renew(u64),
    Announce(u64),
    Activate(u64),
    Destroy(u64),
}

/// All steps with their ticks, for ever: in the first round the nodes join one after the other.
pub fn steps() -> impl Iterator<Item = (u64, Step)> {
    (0..).flat_map(|tick| at(tick).into_iter().map(move |step| (tick, step)))
}

fn at(tick: u64) -> Vec<Step> {
    let (round, node) = (tick / NODES, tick % NODES);
    if round == 0 {
        return vec![Step::Invite(node), Step::Join(node), Step::Enrol(node), Step::FirstKey(node)];
    }
    let begun = |before: u64| tick.checked_sub(before).filter(|then| *then >= NODES).map(|then| then % NODES);
    let mut steps = vec![Step::Announce(node)];
    steps.extend(begun(ACTIVATE_TICKS).map(Step::Activate));
    steps.extend(begun(DESTROY_TICKS).map(Step::Destroy));
    steps.extend((round % RENEW_ROUNDS == 0).then_some(Step::Renew(node)));
    steps
}
