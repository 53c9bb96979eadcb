//! Exit codes of meshctl.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It failed.
    Failed = 1,
    /// It was called in a wrong way.
    Usage = 2,
    /// The daemon can't be reached.
    NotReachable = 3,
    /// Trust says no: token, certificate, signature, permission.
    Refused = 4,
    /// What was named does not exist.
    NotFound = 5,
    /// It took too long.
    TimedOut = 6,
    /// The state does not allow it: already a member, not a member, name taken.
    Conflict = 7,
}

impl Exit {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::NotReachable,
        Self::Refused,
        Self::NotFound,
        Self::TimedOut,
        Self::Conflict,
    ];

    /// Number the process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for help texts.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Failed => "failed",
            Self::Usage => "called in a wrong way, or a file or text can't be read",
            Self::NotReachable => "the daemon can't be reached",
            Self::Refused => "refused: token, certificate, signature or permission",
            Self::NotFound => "not found",
            Self::TimedOut => "timed out",
            Self::Conflict => "the state does not allow it: already a member, not a member, name taken",
        }
    }
}
