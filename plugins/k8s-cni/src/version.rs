//! The versions of CNI.

/// A version this plugin speaks; the order is that of their release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Results with interfaces, chains.
    V0_3_0,
    /// The same with a mended text.
    V0_3_1,
    /// CHECK.
    V0_4_0,
    /// Addresses without their family beside them.
    V1_0_0,
    /// GC, STATUS, MTU of interfaces.
    V1_1_0,
}

impl Version {
    /// All, oldest first.
    pub const ALL: [Self; 5] = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest.
    pub const NEWEST: Self = Self::V1_1_0;

    /// How it is written.
    pub const fn text(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Finds the version of a text.
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.text() == text)
    }

    /// Whether an address has its family beside it.
    pub fn tells_family(self) -> bool {
        self < Self::V1_0_0
    }

    /// Whether an interface has its MTU beside it.
    pub fn tells_mtu(self) -> bool {
        self >= Self::V1_1_0
    }
}
