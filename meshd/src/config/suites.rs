//! Which tunnel suites a node offers.

use serde::Deserialize;

/// A suite by its name in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SuiteName {
    /// Exact WireGuard: ChaCha20-Poly1305.
    Wg,
    /// The same protocol with AES-256-GCM.
    Aes,
}

/// The suites of a node; `wg` is always among them, because everybody speaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suites {
    aes: bool,
}

impl Suites {
    /// Exact WireGuard alone.
    pub const WG: Self = Self { aes: false };

    const BIT_WG: u8 = 1;
    const BIT_AES: u8 = 2;

    /// Takes a list; none if it is not a set with `wg` in it.
    pub(super) fn of(names: &[SuiteName]) -> Option<Self> {
        let count = |wanted| names.iter().filter(|name| **name == wanted).count();
        match (count(SuiteName::Wg), count(SuiteName::Aes)) {
            (1, aes @ 0..=1) => Some(Self { aes: aes == 1 }),
            _ => None,
        }
    }

    /// Those that this CPU has instructions for: there is no AES in software, it would be slow and leak by timing.
    pub fn of_this_cpu(self) -> Self {
        Self { aes: self.aes && has_aes() }
    }

    /// As NodeKeys says it.
    pub fn bits(self) -> u8 {
        if self.aes { Self::BIT_WG | Self::BIT_AES } else { Self::BIT_WG }
    }

    /// Whether two nodes use `aes`: if the signed keys of both list it.
    pub fn both_have_aes(one: u8, other: u8) -> bool {
        one & other & Self::BIT_AES != 0
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_set_with_wg_in_it() {
        assert_eq!(Suites::of(&[SuiteName::Wg]), Some(Suites::WG));
        assert_eq!(Suites::of(&[SuiteName::Aes, SuiteName::Wg]), Some(Suites { aes: true }));
        for wrong in [&[][..], &[SuiteName::Aes], &[SuiteName::Wg, SuiteName::Wg]] {
            assert_eq!(Suites::of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn aes_is_used_if_both_list_it() {
        let (wg, aes) = (Suites::WG.bits(), Suites { aes: true }.bits());
        assert_eq!((wg, aes), (1, 3));
        assert!(Suites::both_have_aes(aes, aes));
        // A bit of a newer release says nothing about the others.
        assert!(!Suites::both_have_aes(aes, wg | 4));
        assert!(!Suites::both_have_aes(wg, wg));
    }
}
