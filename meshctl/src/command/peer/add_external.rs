//! `meshctl peer add-external`.

use std::path::PathBuf;

use clap::Args;
use data_encoding::BASE64;
use ipnet::IpNet;
use meshd_api::{AddExternalReply, AddExternalRequest, Body, Exit, RemoveExternalRequest, Secret};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde::{Deserialize, Serialize};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::quick_config::{HostPort, QuickConfig, WireGuardKey};
use crate::command::Daemon;
use crate::failure::Failure;
use crate::file::{self, Readers};
use crate::name::Name;
use crate::output::{self, Form};

/// Give a plain WireGuard peer an address of the mesh, and print its configuration.
#[derive(Debug, Args)]
pub struct AddExternal {
    /// Name of the peer, unique among nodes and plain peers of the organisation.
    name: Name,
    /// Show the configuration as a QR code as well, on standard error: phones scan it.
    #[arg(long)]
    qr: bool,
    /// Write the configuration to a file that only its owner reads, instead of standard output. Never overwritten.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Mix in a preshared key; so it is unless told otherwise.
    #[arg(long, conflicts_with = "no_psk")]
    psk: bool,
    /// Do without a preshared key, for peers that can't hold one.
    #[arg(long)]
    no_psk: bool,
    /// Public key of the peer, if it has made its own; the configuration then holds no private key.
    #[arg(long, value_name = "KEY")]
    public_key: Option<WireGuardKey>,
    /// Where the peer reaches this node; the first address that this node publishes if none is given.
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<HostPort>,
    /// Part of the mesh that the peer sends to; all of it if none is given. May be given several times.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    allowed: Vec<IpNet>,
}

/// What was made.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    name: String,
    addr4: std::net::Ipv4Addr,
    addr6: std::net::Ipv6Addr,
    gateway: String,
    /// The configuration; none if it went to a file.
    config: Option<String>,
    file: Option<PathBuf>,
}

impl Body for Made {
    const SCHEMA: &'static str = "meshctl.external/1";
}

impl AddExternal {
    /// Has the peer served, and hands out its configuration.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        if let Some(path) = &self.out {
            file::absent(path)?;
        }
        let private = match self.public_key {
            Some(_) => None,
            None => Some(StaticSecret::from(*random()?)),
        };
        let public = match (&self.public_key, &private) {
            (Some(key), _) => key.to_string(),
            (None, Some(private)) => BASE64.encode(PublicKey::from(private).as_bytes()),
            (None, None) => unreachable!("a peer has a key of its own or gets one"),
        };
        let psk = if self.no_psk { None } else { Some(Zeroizing::new(BASE64.encode(&*random()?))) };
        let request = AddExternalRequest {
            name: self.name.to_string(),
            public_key: public,
            preshared_key: psk.as_ref().map(|psk| Secret(psk.to_string())),
        };
        let reply = daemon.client.call(&request).await?.body;
        let private = private.map(|private| Zeroizing::new(BASE64.encode(private.as_bytes())));
        let is_lost_with_key = private.is_some();
        let handed_out = self.hand_out(daemon, &reply, private, psk);
        if handed_out.is_err() && is_lost_with_key {
            // Nobody has the key that was made here: what was added with it is of no use.
            daemon.client.call(&RemoveExternalRequest { name: reply.external.name }).await?;
        }
        handed_out
    }

    fn hand_out(
        &self,
        daemon: &Daemon,
        reply: &AddExternalReply,
        private: Option<Zeroizing<String>>,
        psk: Option<Zeroizing<String>>,
    ) -> Result<(), Failure> {
        let config = self.config(reply, private, psk)?;
        let text = config.to_text();
        // First of all: a text too long for a code must not be half a success.
        let code = if self.qr { Some(qr_code(&text)?) } else { None };
        let made = Made {
            name: reply.external.name.clone(),
            addr4: reply.external.addr4,
            addr6: reply.external.addr6,
            gateway: reply.gateway.clone(),
            config: self.out.is_none().then(|| text.to_string()),
            file: self.out.clone(),
        };
        if let Some(path) = &self.out {
            file::write_new(path, text.as_bytes(), Readers::Owner)?;
        }
        let told = format!("{} has {} and {}, through {}", made.name, made.addr4, made.addr6, made.gateway);
        daemon.form.own(made, |made| match &made.config {
            Some(config) => config.trim_end().to_owned(),
            None => told.clone(),
        })?;
        if let Some(code) = code {
            output::talk(&code);
        }
        if daemon.form == Form::Human {
            if self.out.is_none() {
                output::talk(&told);
            }
            if !config.has_endpoint() {
                output::talk("warning: this node knows no address of its own: add Endpoint = HOST:PORT");
            }
        }
        Ok(())
    }

    fn config(
        &self,
        reply: &AddExternalReply,
        private: Option<Zeroizing<String>>,
        psk: Option<Zeroizing<String>>,
    ) -> Result<QuickConfig, Failure> {
        let mesh: Vec<IpNet> = reply.prefixes.iter().filter_map(|text| text.parse().ok()).collect();
        let outside = self.allowed.iter().find(|one| !mesh.iter().any(|whole| whole.contains(*one)));
        if let Some(outside) = outside {
            let whole: Vec<String> = mesh.iter().map(ToString::to_string).collect();
            return Err(Failure::new(Exit::Usage, format!("{outside} is no part of the mesh")).with_hint(
                format!("a gateway carries what lies inside {}, and nothing else", whole.join(", ")),
            ));
        }
        let endpoint = self.endpoint.as_ref().map(ToString::to_string);
        Ok(QuickConfig {
            name: reply.external.name.clone(),
            private,
            public: reply.external.public_key.clone(),
            addrs: (reply.external.addr4, reply.external.addr6),
            mtu: reply.mtu,
            gateway: reply.gateway.clone(),
            gateway_key: reply.gateway_key.clone(),
            psk,
            endpoint: endpoint.or_else(|| reply.endpoints.first().cloned()),
            allowed: if self.allowed.is_empty() { mesh } else { self.allowed.clone() },
        })
    }
}

/// Thirty-two bytes of the system's randomness.
fn random() -> Result<Zeroizing<[u8; 32]>, Failure> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| Failure::new(Exit::Failed, "the system gives no random bytes").because(&error))?;
    Ok(bytes)
}

/// A text as a code of half blocks, dark on light as cameras want it.
fn qr_code(text: &str) -> Result<String, Failure> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)
        .map_err(|error| Failure::new(Exit::Failed, "can't make a QR code").because(&error))?;
    // Terminals are dark: the light modules are those that are drawn.
    Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}
