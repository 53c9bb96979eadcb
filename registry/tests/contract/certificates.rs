//! A certificate authority for one test.

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// A certificate and its key as PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

pub struct Authority {
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to refuse");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "contract authority");
        let key = KeyPair::generate().expect("system has randomness");
        let certificate = params.self_signed(&key).expect("parameters are complete").pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate with this common name, valid for loopback.
    pub fn issue(&self, name: &str) -> Identity {
        let names = vec![String::from("127.0.0.1"), String::from("localhost")];
        let mut params = CertificateParams::new(names).expect("names are valid");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("system has randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("parameters are complete").pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}
