//! Settings of the kernel under /proc/sys/net, of the calling thread's network namespace.

use std::fs;
use std::io;

use super::ipv6::ipv6_is_enabled;

/// Says which setting of the kernel could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("set {path} to {value}")]
pub struct SysctlError {
    path: String,
    value: &'static str,
    #[source]
    source: io::Error,
}

/// Makes the kernel forward packets between its interfaces, for both families.
///
/// There is no way back: others may count on it by the time the last endpoint is gone.
pub fn enable_forwarding() -> Result<(), SysctlError> {
    set("ipv4/ip_forward", "1")?;
    if ipv6_is_enabled() {
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// Sets what concerns one interface.
pub(super) fn set_interface(
    family: &str,
    interface: &str,
    setting: &str,
    value: &'static str,
) -> Result<(), SysctlError> {
    set(&format!("{family}/conf/{interface}/{setting}"), value)
}

/// Whether what concerns one interface has this value.
pub(super) fn interface_has(family: &str, interface: &str, setting: &str, value: &str) -> bool {
    has(&format!("/proc/sys/net/{family}/conf/{interface}/{setting}"), value)
}

/// A setting that has its value already is not written: /proc/sys may be read-only.
fn set(setting: &str, value: &'static str) -> Result<(), SysctlError> {
    let path = format!("/proc/sys/net/{setting}");
    if has(&path, value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|source| SysctlError { path, value, source })
}

fn has(path: &str, value: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|now| now.trim() == value)
}
