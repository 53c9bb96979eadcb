//! Every kind of signed record, those of later stages included.

/// Kind of a record. Numbers are for ever: a retired one is never given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Keys and threshold of an organisation.
    OrgRoot = 1,
    /// Keys and roles of a steward, given by the root.
    StewardDelegation = 2,
    /// Birth of a mesh.
    MeshGenesis = 3,
    /// A later version of an agreement.
    Agreement = 4,
    /// An organisation leaves an agreement.
    Leave = 5,
    /// A steward admits a node.
    NodeCert = 6,
    /// Tunnel keys of a node.
    NodeKeys = 7,
    /// Where a node can be reached.
    NodePaths = 8,
    /// A container, pod or process of a node.
    Endpoint = 9,
    /// Allow rules of an organisation.
    OrgPolicy = 10,
    /// What an organisation has revoked.
    Revocations = 11,
    /// Freshness and versions of an organisation.
    OrgState = 12,
    /// A peer's answer to a record.
    Receipt = 13,
    /// Break-glass statement of a root.
    Recovery = 14,
    /// A node asks for admission; never stored in a registry.
    JoinRequest = 64,
    /// A node says that it leaves; never stored in a registry.
    NodeLeave = 65,
    /// A node names the plain WireGuard peers it serves; never stored in a registry.
    NodeExternals = 66,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::OrgRoot,
        Self::StewardDelegation,
        Self::MeshGenesis,
        Self::Agreement,
        Self::Leave,
        Self::NodeCert,
        Self::NodeKeys,
        Self::NodePaths,
        Self::Endpoint,
        Self::OrgPolicy,
        Self::Revocations,
        Self::OrgState,
        Self::Receipt,
        Self::Recovery,
        Self::JoinRequest,
        Self::NodeLeave,
        Self::NodeExternals,
    ];

    /// Whether its records belong to the chain of trust, which proves a mesh and its stewards to a newcomer.
    pub const fn belongs_to_chain(self) -> bool {
        match self {
            Self::OrgRoot
            | Self::StewardDelegation
            | Self::MeshGenesis
            | Self::Agreement
            | Self::Leave
            | Self::Revocations
            | Self::OrgState => true,
            Self::NodeCert
            | Self::NodeKeys
            | Self::NodePaths
            | Self::Endpoint
            | Self::OrgPolicy
            | Self::Receipt
            | Self::Recovery
            | Self::JoinRequest
            | Self::NodeLeave
            | Self::NodeExternals => false,
        }
    }

    /// Number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Kind of a number, if this version knows it.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Name, also the domain of its signatures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OrgRoot => "OrgRoot",
            Self::StewardDelegation => "StewardDelegation",
            Self::MeshGenesis => "MeshGenesis",
            Self::Agreement => "Agreement",
            Self::Leave => "Leave",
            Self::NodeCert => "NodeCert",
            Self::NodeKeys => "NodeKeys",
            Self::NodePaths => "NodePaths",
            Self::Endpoint => "Endpoint",
            Self::OrgPolicy => "OrgPolicy",
            Self::Revocations => "Revocations",
            Self::OrgState => "OrgState",
            Self::Receipt => "Receipt",
            Self::Recovery => "Recovery",
            Self::JoinRequest => "JoinRequest",
            Self::NodeLeave => "NodeLeave",
            Self::NodeExternals => "NodeExternals",
        }
    }

    /// Signatures a record of this kind may carry at most.
    pub const fn signatures_max(self) -> usize {
        match self {
            Self::OrgRoot | Self::MeshGenesis | Self::Agreement => 64,
            Self::StewardDelegation
            | Self::Leave
            | Self::NodeCert
            | Self::NodeKeys
            | Self::NodePaths
            | Self::Endpoint
            | Self::OrgPolicy
            | Self::Revocations
            | Self::OrgState
            | Self::Receipt
            | Self::Recovery
            | Self::JoinRequest
            | Self::NodeLeave
            | Self::NodeExternals => 16,
        }
    }

    /// Whether the mesh id in the signed message is all zero, because the mesh does not exist yet.
    pub const fn precedes_mesh(self) -> bool {
        matches!(self, Self::OrgRoot | Self::MeshGenesis)
    }
}
