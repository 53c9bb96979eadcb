//! What the kernel does with IPv6, read and set through /proc/sys.

use std::fs;
use std::path::Path;

/// Whether new devices of this network namespace can have IPv6 addresses.
pub fn ipv6_is_enabled() -> bool {
    Path::new("/proc/net/if_inet6").exists()
        && fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6").is_ok_and(|text| text.trim() == "0")
}

/// Makes `device` have no IPv6 addresses but those it is given. Returns whether IPv6 works on it.
///
/// In a container /proc/sys may be read-only; the overlay works then too, with a link-local address it does
/// not need.
pub(super) fn prepare(device: &str) -> bool {
    if !ipv6_is_enabled() {
        return false;
    }
    for (setting, value) in [("accept_ra", "0"), ("autoconf", "0"), ("addr_gen_mode", "1")] {
        if let Err(error) = fs::write(setting_path(device, setting), value) {
            tracing::warn!(device, setting, %error, "device setting not changed");
        }
    }
    let disabled = setting_path(device, "disable_ipv6");
    let is_off = || fs::read_to_string(&disabled).is_ok_and(|text| text.trim() != "0");
    if is_off()
        && let Err(error) = fs::write(&disabled, "0")
    {
        tracing::warn!(device, %error, "ipv6 is off for new devices and stays so");
    }
    !is_off()
}

fn setting_path(device: &str, setting: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{device}/{setting}")
}
