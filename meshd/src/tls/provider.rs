//! The one cryptographic set-up of every connection.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Reports keys or settings that the TLS library does not take.
#[derive(Debug, thiserror::Error)]
#[error("set up TLS")]
pub struct TlsSetupError(#[from] pub(super) rustls::Error);

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    // Hybrid only: a classical group would let a recorded enrolment be opened later.
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    Arc::new(provider)
});

/// Provider with TLS 1.3 suites and the hybrid group alone.
pub(super) fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}
