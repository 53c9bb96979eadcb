//! Configuration: one TOML file parsed once into valid types.

mod offload;
mod suites;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshd_wire::name::is_host_name;
use serde::Deserialize;

use crate::names::Suffix;

pub use offload::Offloads;
pub use suites::Suites;

use offload::{EqualTail, equal_tail};
use suites::SuiteName;

/// The embedded defaults, which are also the documentation of every key.
pub const DEFAULT_TOML: &str = include_str!("config/default.toml");

/// Longest name of a network device, without the final zero (Linux `IFNAMSIZ` is 16).
const DEVICE_NAME_MAX: usize = 15;
/// Most shards of the data path: more cores than one tunnel endpoint can use.
const SHARDS_MAX: u8 = 64;
/// Shortest and longest time from one tunnel key to the next, in seconds: the longest is half of the age at which peers
/// refuse a key, the shortest is for labs.
const KEY_PERIODS_S: RangeInclusive<u32> = 1..=86_400;
/// Smallest MTU that carries IPv6 (RFC 8200, section 5).
const MTU_MIN: u16 = 1280;

/// Reports a configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, a wrong type, or an unknown key.
    #[error("parse configuration {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value out of its range.
    #[error("configuration key `{key}`: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Name of the plugins' socket, if it has no path of its own.
const PLUGIN_SOCKET: &str = "plugin.sock";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where keys, records and roles are kept.
    pub state_dir: PathBuf,
    /// Path of the control socket.
    pub socket: PathBuf,
    /// Path of the plugins' socket.
    pub plugin_socket: PathBuf,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Levels, in the syntax of tracing's `EnvFilter`.
    pub log_level: String,
    /// Wanted node name; the host name when absent.
    pub node_name: Option<String>,
    /// Further underlay addresses; port 0 stands for the tunnel's port.
    pub advertise: Vec<SocketAddr>,
    /// Name of the TUN device.
    pub device: String,
    /// UDP port of the tunnels.
    pub tunnel_port: u16,
    /// MTU of the device, if not derived.
    pub mtu: Option<u16>,
    /// Suites that this node offers: those wanted, as far as its CPU has instructions for them.
    pub suites: Suites,
    /// Shards of the data path, if not by the number of cores.
    pub shards: Option<u8>,
    /// What the kernel may do for many packets at once.
    pub offloads: Offloads,
    /// From one tunnel key to the next.
    pub key_period: Duration,
    /// Where stewards and embedded registries listen.
    pub control_listen: SocketAddr,
    /// Which registry to use.
    pub registry: RegistryConfig,
    /// Names over DNS.
    pub dns: DnsConfig,
    /// TCP address for metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// The settings as a file would hold them, defaults and flags included.
    pub shown: toml::Table,
}

/// Names over DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Whether this node answers.
    pub serve: bool,
    /// The domain under which names stand.
    pub suffix: Suffix,
}

/// Which registry to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryConfig {
    /// The embedded one that the invitation names.
    Embedded,
    /// An etcd cluster.
    Etcd {
        /// Its endpoints.
        endpoints: Vec<String>,
        /// PEM file of its certificate authority.
        ca: Option<PathBuf>,
        /// PEM files of certificate and key to log in with.
        login: Option<(PathBuf, PathBuf)>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    state_dir: PathBuf,
    socket: PathBuf,
    plugin_socket: PathBuf,
    log: LogTable,
    node: NodeTable,
    tunnel: TunnelTable,
    keys: KeysTable,
    control: ControlTable,
    registry: RegistryTable,
    dns: DnsTable,
    metrics: MetricsTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogTable {
    format: LogFormat,
    level: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeTable {
    name: String,
    advertise: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TunnelTable {
    device: String,
    port: u16,
    mtu: u16,
    suites: Vec<SuiteName>,
    shards: u8,
    udp_gso: bool,
    udp_gro: bool,
    tun_tcp_gro: bool,
    tun_udp_gro: bool,
    never_gso_equal_tail: EqualTail,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysTable {
    period_s: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlTable {
    listen: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistryTable {
    endpoints: Vec<String>,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DnsTable {
    serve: bool,
    suffix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricsTable {
    listen: String,
}

impl Config {
    /// Reads a file over the defaults, or the defaults alone; flags come last.
    pub fn load(path: Option<&Path>, flags: toml::Table) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Self::parse("", Path::new("(no file)"), flags);
        };
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path, flags)
    }

    /// Parses a text over the defaults, and lays flags over both; `path` is named in errors.
    pub fn parse(text: &str, path: &Path, flags: toml::Table) -> Result<Self, ConfigError> {
        let parse_error = |source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) };
        let defaults: toml::Table = toml::from_str(DEFAULT_TOML).map_err(parse_error)?;
        let given: toml::Table = toml::from_str(text).map_err(parse_error)?;
        let merged = merge(merge(defaults, given), flags);
        let file: File = toml::Value::Table(merged.clone()).try_into().map_err(parse_error)?;
        Self::validate(file, merged)
    }

    fn validate(file: File, shown: toml::Table) -> Result<Self, ConfigError> {
        let File {
            state_dir,
            socket,
            plugin_socket,
            log,
            node,
            tunnel,
            keys,
            control,
            registry,
            dns,
            metrics,
        } = file;
        Ok(Self {
            state_dir,
            plugin_socket: if plugin_socket.as_os_str().is_empty() {
                socket.with_file_name(PLUGIN_SOCKET)
            } else {
                plugin_socket
            },
            socket,
            log_format: log.format,
            log_level: log.level,
            node_name: (!node.name.is_empty()).then(|| node_name(&node.name)).transpose()?,
            advertise: node.advertise.iter().map(|text| advertised(text)).collect::<Result<_, _>>()?,
            device: device_name(tunnel.device)?,
            tunnel_port: tunnel.port,
            mtu: mtu(tunnel.mtu)?,
            suites: suites(&tunnel.suites)?,
            shards: shards(tunnel.shards)?,
            offloads: Offloads {
                udp_gso: tunnel.udp_gso,
                udp_gro: tunnel.udp_gro,
                tun_tcp_gro: tunnel.tun_tcp_gro,
                tun_udp_gro: tunnel.tun_udp_gro,
                never_gso_equal_tail: equal_tail(&tunnel.never_gso_equal_tail)?,
            },
            key_period: key_period(keys.period_s)?,
            control_listen: socket_addr("control.listen", &control.listen)?,
            registry: registry_config(registry)?,
            dns: DnsConfig { serve: dns.serve, suffix: suffix(&dns.suffix)? },
            metrics_listen: (!metrics.listen.is_empty())
                .then(|| socket_addr("metrics.listen", &metrics.listen))
                .transpose()?,
            shown,
        })
    }
}

/// Lays the given tables over the defaults, table by table, so that a file may hold any part.
fn merge(mut base: toml::Table, over: toml::Table) -> toml::Table {
    for (key, value) in over {
        let merged = match (base.remove(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => {
                toml::Value::Table(merge(base, over))
            }
            (_, value) => value,
        };
        base.insert(key, merged);
    }
    base
}

fn key_period(seconds: u32) -> Result<Duration, ConfigError> {
    if KEY_PERIODS_S.contains(&seconds) {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let why = format!("{seconds} is outside {} to {}", KEY_PERIODS_S.start(), KEY_PERIODS_S.end());
    Err(ConfigError::Value { key: "keys.period_s", why })
}

fn node_name(text: &str) -> Result<String, ConfigError> {
    if is_host_name(text) {
        return Ok(text.to_owned());
    }
    let why = format!("`{text}` is no name: use 1 to 63 of a-z, 0-9 and `-`");
    Err(ConfigError::Value { key: "node.name", why })
}

fn advertised(text: &str) -> Result<SocketAddr, ConfigError> {
    let with_port = text.parse::<SocketAddr>();
    let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    with_port.or_else(|_| bare()).map_err(|_| ConfigError::Value {
        key: "node.advertise",
        why: format!("`{text}` is neither ADDRESS nor ADDRESS:PORT"),
    })
}

fn device_name(text: String) -> Result<String, ConfigError> {
    let charset = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=DEVICE_NAME_MAX).contains(&text.len()) && text.bytes().all(charset) {
        return Ok(text);
    }
    let why = format!("`{text}` is no device name: use 1 to {DEVICE_NAME_MAX} of a-z, 0-9 and `-`");
    Err(ConfigError::Value { key: "tunnel.device", why })
}

fn mtu(bytes: u16) -> Result<Option<u16>, ConfigError> {
    match bytes {
        0 => Ok(None),
        MTU_MIN.. => Ok(Some(bytes)),
        _ => Err(ConfigError::Value {
            key: "tunnel.mtu",
            why: format!("{bytes} is below {MTU_MIN}, which IPv6 needs"),
        }),
    }
}

fn suites(names: &[SuiteName]) -> Result<Suites, ConfigError> {
    Suites::of(names).map(Suites::of_this_cpu).ok_or_else(|| ConfigError::Value {
        key: "tunnel.suites",
        why: "name `wg`, which every node speaks, and `aes` if it is wanted, each once".to_owned(),
    })
}

fn shards(count: u8) -> Result<Option<u8>, ConfigError> {
    match count {
        0 => Ok(None),
        1..=SHARDS_MAX => Ok(Some(count)),
        _ => Err(ConfigError::Value {
            key: "tunnel.shards",
            why: format!("{count} are more than {SHARDS_MAX}"),
        }),
    }
}

fn suffix(text: &str) -> Result<Suffix, ConfigError> {
    text.parse().map_err(|error| ConfigError::Value {
        key: "dns.suffix",
        why: format!("`{text}` is no domain for names: {error}"),
    })
}

fn socket_addr(key: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let why = || format!("`{text}` is not ADDRESS:PORT");
    text.parse().map_err(|_| ConfigError::Value { key, why: why() })
}

fn registry_config(table: RegistryTable) -> Result<RegistryConfig, ConfigError> {
    let some = |path: PathBuf| (!path.as_os_str().is_empty()).then_some(path);
    let RegistryTable { endpoints, ca, cert, key } = table;
    let (ca, cert, key) = (some(ca), some(cert), some(key));
    let login = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            let why = "`registry.cert` and `registry.key` come together".to_owned();
            return Err(ConfigError::Value { key: "registry", why });
        }
    };
    if endpoints.is_empty() {
        if ca.is_some() || login.is_some() {
            let why = "certificates need `registry.endpoints`".to_owned();
            return Err(ConfigError::Value { key: "registry", why });
        }
        return Ok(RegistryConfig::Embedded);
    }
    for url in &endpoints {
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            let why = format!("`{url}` does not start with http:// or https://");
            return Err(ConfigError::Value { key: "registry.endpoints", why });
        }
    }
    let wants_tls = login.is_some() || endpoints.iter().any(|url| url.starts_with("https://"));
    if wants_tls && ca.is_none() {
        let why = "https and a login need the authority that signed etcd's certificate".to_owned();
        return Err(ConfigError::Value { key: "registry.ca", why });
    }
    Ok(RegistryConfig::Etcd { endpoints, ca, login })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("test.toml"), toml::Table::new())
    }

    fn whole(error: ConfigError) -> String {
        format!("{:#}", anyhow::Error::from(error))
    }

    #[test]
    fn defaults_need_no_file() {
        let config = Config::load(None, toml::Table::new()).expect("valid defaults");
        assert_eq!(config.tunnel_port, 51820);
        assert_eq!(config.registry, RegistryConfig::Embedded);
        assert_eq!(config.mtu, None);
    }

    #[test]
    fn what_the_kernel_may_do_is_switched_one_by_one() {
        let all = parse("").expect("defaults").offloads;
        assert!(all.udp_gso && all.udp_gro && all.tun_tcp_gro && all.tun_udp_gro);
        assert_eq!(all.never_gso_equal_tail, None);
        let some = parse("[tunnel]\nudp_gso = false\nnever_gso_equal_tail = true").expect("valid").offloads;
        assert_eq!(some, Offloads { udp_gso: false, never_gso_equal_tail: Some(true), ..all });
    }

    #[test]
    fn wg_alone_may_be_offered_and_shards_counted() {
        let config = parse("[tunnel]\nsuites = [\"wg\"]\nshards = 2").expect("valid");
        assert_eq!((config.suites, config.shards), (Suites::WG, Some(2)));
        assert_eq!(parse("").expect("defaults").shards, None);
    }

    #[test]
    fn a_file_may_hold_any_part() {
        let config = parse("[tunnel]\nport = 1\n[node]\nadvertise = [\"192.0.2.1\"]").expect("valid");
        assert_eq!((config.tunnel_port, config.device.as_str()), (1, "meshd0"));
        assert_eq!(config.advertise, ["192.0.2.1:0".parse().expect("address")]);
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        assert!(whole(parse("[tunnel]\nprot = 1").expect_err("unknown")).contains("prot"));
        assert!(whole(parse("colour = 1").expect_err("unknown")).contains("colour"));
    }

    #[test]
    fn values_out_of_range_name_their_key() {
        for (text, key) in [
            ("[tunnel]\nmtu = 1279", "tunnel.mtu"),
            ("[tunnel]\nsuites = [\"aes\"]", "tunnel.suites"),
            ("[tunnel]\nsuites = [\"wg\", \"wg\"]", "tunnel.suites"),
            ("[tunnel]\nsuites = [\"des\"]", "des"),
            ("[tunnel]\nshards = 65", "tunnel.shards"),
            ("[keys]\nperiod_s = 0", "keys.period_s"),
            ("[keys]\nperiod_s = 86401", "keys.period_s"),
            ("[tunnel]\nnever_gso_equal_tail = \"maybe\"", "tunnel.never_gso_equal_tail"),
            ("[tunnel]\ndevice = \"a/b\"", "tunnel.device"),
            ("[node]\nname = \"A\"", "node.name"),
            ("[node]\nadvertise = [\"x\"]", "node.advertise"),
            ("[control]\nlisten = \"51820\"", "control.listen"),
            ("[registry]\nendpoints = [\"etcd:2379\"]", "registry.endpoints"),
            ("[dns]\nsuffix = \"Mesh\"", "dns.suffix"),
            ("[registry]\ncert = \"c\"", "registry"),
            ("[registry]\nendpoints = [\"https://etcd:2379\"]", "registry.ca"),
        ] {
            assert!(whole(parse(text).expect_err(text)).contains(key), "{text}");
        }
    }
}
