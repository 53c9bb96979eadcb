//! Who stands at the other end of the control socket.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::unix::UCred;

/// Group whose members may use the socket beside root.
pub const GROUP: &str = "meshd";

/// Gid of the group, if the host has it.
pub fn group() -> Option<Gid> {
    Group::from_name(GROUP).ok().flatten().map(|group| group.gid)
}

/// Whether a process may use the socket: root, the daemon's own user, or a member of the group.
pub fn is_allowed(cred: &UCred) -> bool {
    let uid = Uid::from_raw(cred.uid());
    uid.is_root() || uid == Uid::effective() || group().is_some_and(|gid| is_member(cred, uid, gid))
}

fn is_member(cred: &UCred, uid: Uid, gid: Gid) -> bool {
    if cred.gid() == gid.as_raw() {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(uid) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&gid))
}
