//! Brings a mesh up: tunnels first, then what serves others, then what asks others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::{IpNet, Ipv4Net};
use meshd_api::{ApiError, ErrorCode, Event, StewardKeys};
use meshd_core::rotation::{Bounds, Lengths, Periods};
use meshd_trust::founding::StewardPublicKeys;
use meshd_trust::{Roster, address};
use meshd_tunnel::Tai64n;
use meshd_wire::record::NodeCert;
use meshd_wire::{NodeId, Timestamp};
use tokio::sync::{broadcast, mpsc, watch};

use super::checkpoints::Checkpoints;
use super::claims::OwnClaims;
use super::clock_floor::ClockFloor;
use super::cosigners::Cosigners;
use super::duties::Duties;
use super::endpoints::Endpoints;
use super::entry::{Entry, open_steward};
use super::external::ExternalsFile;
use super::journal::{Journal, set_journal_aside};
use super::key_log::KeyLog;
use super::mirrors::Mirrors;
use super::naming::Naming;
use super::prefixes::{overlay_prefixes, refuse_conflicts};
use super::rotation::KeyRotation;
use super::{FINDINGS_MAX, Mesh};
use crate::channel::Channels;
use crate::clock::{self, NodeClock, boot};
use crate::config::{Config, Offloads};
use crate::daemon::Inlets;
use crate::dataplane::{DataPlane, DataPlaneConfig, DataPlaneError};
use crate::discovery::keyspace::Keyspace;
use crate::endpoints::ClaimSigner;
use crate::generations::Generations;
use crate::io::{Switches, Tun, Udp};
use crate::membership::{Membership, MembershipFile};
use crate::role::control::ControlRole;
use crate::role::registry::{Guard, Holders, ServerKeys, Whereabouts};
use crate::role::steward::Steward;
use crate::state_dir::StateDir;
use crate::tls::{Admission, RawKey};

impl Mesh {
    /// Says what would keep a mesh from starting, before a token is used up.
    pub fn preflight(config: &Config) -> Result<(), ApiError> {
        let tried = Udp::bind(config.tunnel_port)
            .map_err(DataPlaneError::from)
            .and_then(|_| Tun::create(&config.device).map_err(DataPlaneError::from));
        tried.map(drop).map_err(|error| device_failed(&error))
    }

    /// As [`Mesh::preflight`], for a host that will be a steward.
    pub fn preflight_steward(config: &Config) -> Result<(), ApiError> {
        Self::preflight(config)?;
        let tried = std::net::TcpListener::bind(config.control_listen)
            .with_context(|| format!("listen on {}", config.control_listen));
        tried.map(drop).map_err(|error| control_failed(&error))
    }

    /// Makes the keys of the steward role, or shows those made before.
    pub fn prepare_steward(state: &StateDir) -> Result<StewardKeys, ApiError> {
        Ok(steward_keys(&open_steward(state)?.public_keys()))
    }

    /// Stores a new membership and starts the mesh.
    pub async fn enter(
        config: &Config,
        state: &StateDir,
        entry: Entry,
        inlets: &Inlets,
        events: broadcast::Sender<Event>,
    ) -> Result<Self, ApiError> {
        let Entry { membership, roster } = entry;
        refuse_conflicts(&roster, &config.device).map_err(|error| *error)?;
        let stored = |error: anyhow::Error| {
            ApiError::new(ErrorCode::StorageFailed, "the membership can't be stored")
                .with_cause(format!("{error:#}"))
        };
        // The roster first: a membership without one could not start.
        let (mut roster_file, _) =
            Generations::open(state.path(), "roster").map_err(|error| stored(error.into()))?;
        roster_file.write(&roster.to_bytes()).map_err(|error| stored(error.into()))?;
        let (mut file, _) = MembershipFile::open(state.path()).map_err(|error| stored(error.into()))?;
        file.store(&membership).map_err(|error| stored(error.into()))?;
        Self::start(config, state, membership, roster, roster_file, inlets, events).await
    }

    /// Starts the mesh this host belonged to when it stopped.
    pub async fn resume(
        config: &Config,
        state: &StateDir,
        membership: Membership,
        inlets: &Inlets,
        events: broadcast::Sender<Event>,
    ) -> anyhow::Result<Self> {
        let (roster_file, bytes) = Generations::open(state.path(), "roster")?;
        let bytes = bytes.ok_or_else(|| anyhow::anyhow!("the roster is missing beside the membership"))?;
        let roster = Roster::from_bytes(&bytes, membership.mesh, clock::wall()).context("use the roster")?;
        Ok(Self::start(config, state, membership, roster, roster_file, inlets, events).await?)
    }

    async fn start(
        config: &Config,
        state: &StateDir,
        mut membership: Membership,
        roster: Roster,
        roster_file: Generations,
        inlets: &Inlets,
        events: broadcast::Sender<Event>,
    ) -> Result<Self, ApiError> {
        let node = membership.secrets.node();
        let externals = open_externals(state, node)?;
        let clock_floor = open_clock_floor(state)?;
        let journal = open_journal(state, node)?;
        let endpoints = Endpoints::open(state.path(), node, inlets.messages.clone())?;
        let rotation = open_keys(config, state, &mut membership, &roster)?;
        let (plane, plane_events) =
            start_plane(config, &membership, &roster, &rotation, clock_floor.floor())?;
        let (admission, holders) = (Admission::default(), Holders::default());
        let channels = start_channels(&plane, &membership, admission.clone())?;
        let naming = Naming::start(&config.dns, own_addresses(&membership, &roster)?);
        let steward = if membership.steward { Some(open_steward(state)?) } else { None };
        let serves = serves_registry(&membership, steward.as_ref());
        let control = match &steward {
            Some(steward) => Some(
                ControlRole::start(
                    config.control_listen,
                    &steward_tls(steward)?,
                    admission.clone(),
                    inlets.enrol.clone(),
                    serves.then(|| state.join("registry.redb")),
                    Guard::new(&membership.mesh, holders.clone()),
                )
                .await
                .map_err(|error| control_failed(&error))?,
            ),
            None => None,
        };
        let checkpoints = Checkpoints::open(state.path(), &roster);
        let keyspace = Keyspace::new(&membership.mesh);
        let claims = OwnClaims::new(ClaimSigner::new(&membership, &roster));
        let (published, _) = watch::channel(Arc::default());
        let (findings_tx, findings) = mpsc::channel(FINDINGS_MAX);
        let mut mesh = Self {
            membership,
            roster,
            clock: NodeClock::default(),
            plane: Arc::new(plane),
            plane_events,
            findings,
            channels,
            links: Vec::new(),
            steward,
            control,
            admission,
            node,
            device: config.device.clone(),
            control_port: config.control_listen.port(),
            holders,
            whereabouts: Whereabouts::default(),
            server_keys: ServerKeys::default(),
            servers_unsaved: false,
            roster_file,
            keyspace,
            published,
            early: BTreeMap::new(),
            unsaved: false,
            unsaved_paths: false,
            members: BTreeMap::new(),
            peers: BTreeMap::new(),
            events,
            stale: BTreeSet::new(),
            refusals_logged: (Timestamp(0), 0),
            duties: Duties::new(),
            suites: config.suites,
            externals,
            claiming: false,
            clock_floor,
            naming,
            endpoints,
            claims,
            rotation,
            key_log: KeyLog::default(),
            journal,
            cosigners: Cosigners::default(),
            mirrors: Mirrors::default(),
            checkpoints,
        };
        mesh.clock_floor.reserve(boot());
        mesh.remember_the_time();
        mesh.apply();
        mesh.follow_servers(state);
        let started = match mesh.link(config, &findings_tx).await {
            Ok(()) => mesh.resume_endpoints(),
            Err(error) => Err(error),
        };
        if let Err(error) = started {
            // The control port would go on listening, and keep the registry's file open.
            mesh.stop().await;
            return Err(error);
        }
        Ok(mesh)
    }
}

fn own_addresses(membership: &Membership, roster: &Roster) -> Result<(Ipv4Addr, Ipv6Addr), ApiError> {
    let cert = own_cert(membership, roster)?;
    Ok((cert.ipv4(), cert.ipv6()))
}

fn own_cert<'a>(membership: &Membership, roster: &'a Roster) -> Result<&'a NodeCert, ApiError> {
    let view = roster.node(&membership.secrets.node());
    view.map(|view| view.cert())
        .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the own certificate is not in the roster"))
}

fn open_externals(state: &StateDir, node: NodeId) -> Result<ExternalsFile, ApiError> {
    ExternalsFile::open(state.path(), node).map_err(|error| {
        ApiError::new(ErrorCode::StorageFailed, "the externals can't be read")
            .with_cause(crate::chain::of(&error))
            .with_hint(
                "restore `externals.a` from a backup, or remove both copies and add the externals anew",
            )
    })
}

fn open_clock_floor(state: &StateDir) -> Result<ClockFloor, ApiError> {
    let wall = Duration::from_millis(clock::wall_ms());
    ClockFloor::open(state.path(), wall, boot()).map_err(|error| {
        ApiError::new(ErrorCode::StorageFailed, "the time of the last handshakes can't be read")
            .with_cause(crate::chain::of(&error))
            .with_hint("remove `handshakes.a` and `handshakes.b`, if the clock of this host is right")
    })
}

fn open_journal(state: &StateDir, node: NodeId) -> Result<Journal, ApiError> {
    let open = || Journal::open(state.path(), node, clock::wall());
    // A host is worth more than what it remembers of others.
    let opened = open().or_else(|error| {
        let error = crate::chain::of(&error);
        tracing::error!(
            error,
            "begins a new journal of tunnel keys; the one before is in `observed.*.damaged`"
        );
        set_journal_aside(state.path())?;
        open()
    });
    opened.map_err(|error| {
        ApiError::new(ErrorCode::StorageFailed, "the journal of tunnel keys can't be read")
            .with_cause(crate::chain::of(&error))
            .with_hint("move `observed.a` and `observed.b` away: an auditor may want them, nothing else does")
    })
}

/// The tunnel keys. The one that the node joined with is kept where they rotate from now on, and nowhere else.
fn open_keys(
    config: &Config,
    state: &StateDir,
    membership: &mut Membership,
    roster: &Roster,
) -> Result<KeyRotation, ApiError> {
    let failed = |error: &dyn std::error::Error| {
        ApiError::new(ErrorCode::StorageFailed, "the tunnel keys can't be read or stored")
            .with_cause(crate::chain::of(error))
    };
    let is_lab = roster.genesis().is_some_and(|genesis| genesis.lab);
    let bounds = if is_lab { Bounds::Lab } else { Bounds::Real };
    let periods = Periods::new(Lengths::for_period(config.key_period, bounds), bounds).map_err(|error| {
        ApiError::new(ErrorCode::BadRequest, "keys can't be replaced as often as `keys.period_s` says")
            .with_cause(error.to_string())
            .with_hint("leave it out, or set 480 to 86400; only a mesh made with --lab takes less")
    })?;
    let published = roster.node(&membership.secrets.node()).and_then(|view| view.keys().cloned());
    let keys =
        KeyRotation::open(state.path(), &membership.secrets, published.as_ref(), periods, clock::wall())
            .map_err(|error| failed(&error))?;
    if membership.secrets.forget_first_tunnel() {
        membership.store(state.path()).map_err(|error| failed(&error))?;
    }
    Ok(keys)
}

fn start_plane(
    config: &Config,
    membership: &Membership,
    roster: &Roster,
    rotation: &KeyRotation,
    clock_floor: Tai64n,
) -> Result<(DataPlane, tokio::sync::mpsc::Receiver<crate::dataplane::Event>), ApiError> {
    let cert = own_cert(membership, roster)?;
    let prefixes = overlay_prefixes(roster);
    let own4 = prefixes.iter().find_map(|prefix| match prefix {
        IpNet::V4(v4) if v4.contains(&cert.ipv4()) => Some(v4.prefix_len()),
        IpNet::V4(_) | IpNet::V6(_) => None,
    });
    let len4 = own4.unwrap_or(Ipv4Net::from(cert.ipv4()).prefix_len());
    let plane_config = DataPlaneConfig {
        device: config.device.clone(),
        mtu: config.mtu,
        udp_port: config.tunnel_port,
        keys: rotation
            .own_keys()
            .ok_or_else(|| ApiError::new(ErrorCode::StorageFailed, "the tunnel keys are damaged"))?,
        addr4: (cert.ipv4(), len4),
        addr6: (cert.ipv6(), address::mesh_prefix6(&roster.mesh()).1),
        mesh_prefixes: prefixes,
        shards: config.shards.map(usize::from),
        switches: switches(&config.offloads),
        clock_floor,
    };
    let plane = DataPlane::start(plane_config).map_err(|error| device_failed(&error))?;
    let events = plane.events();
    Ok((plane, events))
}

fn start_channels(
    plane: &DataPlane,
    membership: &Membership,
    members: Admission,
) -> Result<Channels, ApiError> {
    let failed = |error: &dyn std::error::Error| {
        ApiError::new(ErrorCode::Internal, "the control channels can't start")
            .with_cause(crate::chain::of(error))
    };
    let key = RawKey::from_seed(&membership.secrets.transport().seed()).map_err(|error| failed(&error))?;
    Channels::start(plane.quic_port(), membership.secrets.node(), key, members)
        .map_err(|error| failed(&error))
}

/// What the configuration allows; what it leaves open follows from the kernel.
fn switches(offloads: &Offloads) -> Switches {
    let Offloads { udp_gso, udp_gro, tun_tcp_gro, tun_udp_gro, never_gso_equal_tail } = *offloads;
    let kernel = Switches::detect();
    Switches {
        udp_gso,
        udp_gro,
        tun_tcp_gro,
        tun_udp_gro: tun_udp_gro && kernel.tun_udp_gro,
        never_gso_equal_tail: never_gso_equal_tail.unwrap_or(kernel.never_gso_equal_tail),
    }
}

fn device_failed(error: &DataPlaneError) -> ApiError {
    let cause = crate::chain::of(error);
    let hint = match error {
        DataPlaneError::Bind(_) => "another program may hold the port: set `tunnel.port`",
        DataPlaneError::Tun(_) => {
            "the daemon needs CAP_NET_ADMIN and /dev/net/tun: run it as root or by its systemd unit"
        }
        DataPlaneError::Device(_) | DataPlaneError::UnderlayMtu(_) | DataPlaneError::Thread { .. } => {
            "look at the daemon's log"
        }
        DataPlaneError::Mtu(_) => "set `tunnel.mtu`, or 0 to derive it",
    };
    ApiError::new(ErrorCode::DeviceFailed, "the tunnels can't start").with_cause(cause).with_hint(hint)
}

fn control_failed(error: &anyhow::Error) -> ApiError {
    let hint = match error.downcast_ref::<std::io::Error>() {
        Some(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            "another program may hold the port: set `control.listen`"
        }
        Some(_) | None => {
            "look at the cause; a registry that was damaged may be removed, the nodes fill a new one"
        }
    };
    ApiError::new(ErrorCode::DeviceFailed, "the control port can't be served")
        .with_cause(format!("{error:#}"))
        .with_hint(hint)
}

/// A steward without another registry in its mesh serves one itself.
fn serves_registry(membership: &Membership, steward: Option<&Steward>) -> bool {
    steward.is_some() && membership.registries.is_empty()
}

fn steward_tls(steward: &Steward) -> Result<RawKey, ApiError> {
    steward.tls_key().map_err(|error| {
        ApiError::new(ErrorCode::Internal, "the steward's TLS key can't be used")
            .with_cause(crate::chain::of(&error))
    })
}

/// Public keys as the control API names them.
pub(super) fn steward_keys(keys: &StewardPublicKeys) -> StewardKeys {
    StewardKeys {
        record_key: keys.record.to_string(),
        log_key: keys.log.to_string(),
        witness_key: keys.witness.to_string(),
        tls_key: keys.tls.to_string(),
    }
}
