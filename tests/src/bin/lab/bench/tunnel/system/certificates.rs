//! Systems with certificates or key files of their own: nebula, tinc, openvpn.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use mesh_lab::Host;

use super::{Found, INNER, MTU, Running, path};
use crate::bench::tunnel::link::Pair;

/// Names of the ends in certificates.
const NAMES: [&str; 2] = ["near", "far"];

/// Socket buffers in bytes, large enough for none of the three to lose packets there.
const SOCKET_BUFFER: u32 = 8 << 20;

/// nebula with a certificate authority, the far end as lighthouse, AES-256-GCM and batches.
pub fn nebula(found: &Found, pair: &Pair) -> Result<Running<'static>> {
    let tool = found.path.with_file_name("nebula-cert");
    let tool = tool.to_str().context("the path of nebula-cert is no text")?;
    let authority = [path(&pair.near, "ca.crt")?, path(&pair.near, "ca.key")?];
    let [ca_cert, ca_key] = &authority;
    let made = pair.near.run(&[tool, "ca", "-name", "bench", "-out-crt", ca_cert, "-out-key", ca_key])?;
    made.ok()?;
    let mut daemons = Vec::new();
    for (host, (own, other)) in pair.hosts().into_iter().zip([(0, 1), (1, 0)]) {
        let (cert, key) = (path(host, "host.crt")?, path(host, "host.key")?);
        let network = format!("{}/24", INNER[own]);
        let sign = [tool, "sign", "-ca-crt", ca_cert, "-ca-key", ca_key, "-name", NAMES[own]];
        let outputs = ["-networks", &network, "-out-crt", &cert, "-out-key", &key];
        host.run(&[&sign[..], &outputs].concat())?.ok()?;
        let lighthouse =
            if own == 1 { "am_lighthouse: true".to_owned() } else { format!("hosts: [\"{}\"]", INNER[1]) };
        let config = format!(
            "pki: {{ ca: {ca_cert}, cert: {cert}, key: {key} }}\n\
             static_host_map: {{ \"{}\": [\"{}:4242\"] }}\n\
             lighthouse: {{ {lighthouse} }}\n\
             listen: {{ host: 0.0.0.0, port: 4242, batch: 128, read_buffer: {SOCKET_BUFFER}, write_buffer: {SOCKET_BUFFER} }}\n\
             punchy: {{ punch: true }}\ncipher: aes\n\
             tun: {{ dev: nebula0, mtu: {MTU}, tx_queue: 1000 }}\n\
             logging: {{ level: warning }}\n\
             firewall: {{ outbound: [{{ port: any, proto: any, host: any }}], inbound: [{{ port: any, proto: any, host: any }}] }}\n",
            INNER[other],
            pair.hosts()[other].addr4()
        );
        let file = write(host, "nebula.yml", &config)?;
        daemons.push(host.start(&[found.program()?, "-config", &file])?);
    }
    Running::of_daemons(daemons, pair)
}

/// tinc as a router, with AES-256 instead of the Blowfish it came with.
pub fn tinc(found: &Found, pair: &Pair) -> Result<Running<'static>> {
    let mut cards = Vec::new();
    for (own, host) in pair.hosts().into_iter().enumerate() {
        fs::create_dir_all(host.dir().join("hosts")).context("create the directory of tinc's hosts")?;
        let connect = if own == 0 { format!("ConnectTo = {}\n", NAMES[1]) } else { String::new() };
        write(
            host,
            "tinc.conf",
            &format!("Name = {}\n{connect}Interface = tinc0\nMode = router\n", NAMES[own]),
        )?;
        let card = format!("hosts/{}", NAMES[own]);
        let (address, inner) = (host.addr4(), INNER[own]);
        let text = format!(
            "Address = {address}\nSubnet = {inner}/32\nCipher = aes-256-cbc\nDigest = sha256\nCompression = 0\n"
        );
        let file = write(host, &card, &text)?;
        let up = format!(
            "#!/bin/sh\nip addr add {inner}/24 dev $INTERFACE\nip link set $INTERFACE mtu {MTU} up\n"
        );
        let up = write(host, "tinc-up", &up)?;
        fs::set_permissions(&up, fs::Permissions::from_mode(0o700)).context("make tinc-up executable")?;
        let dir = path(host, "")?;
        host.run(&[found.program()?, "-c", &dir, "-K2048"])?.ok()?;
        cards.push((card, fs::read_to_string(&file).with_context(|| format!("read {file}"))?));
    }
    let mut daemons = Vec::new();
    for host in pair.hosts() {
        for (card, text) in &cards {
            write(host, card, text)?;
        }
        let (dir, pid) = (path(host, "")?, path(host, "tinc.pid")?);
        daemons.push(host.start(&[found.program()?, "-c", &dir, "-D", "--pidfile", &pid])?);
    }
    Running::of_daemons(daemons, pair)
}

/// openvpn between two ends that know each other's certificates, without its kernel module.
pub fn openvpn(found: &Found, pair: &Pair) -> Result<Running<'static>> {
    let [near, far] = pair.hosts();
    let prints = [certificate(near, NAMES[0])?, certificate(far, NAMES[1])?];
    let mut daemons = Vec::new();
    for (host, (own, other)) in pair.hosts().into_iter().zip([(0, 1), (1, 0)]) {
        let role = if own == 1 { "tls-server\ndh none" } else { "tls-client" };
        let config = format!(
            "dev ovpn0\ndev-type tun\nproto udp4\nport 1194\nremote {} 1194\n{role}\n\
             cert {}\nkey {}\npeer-fingerprint {}\nifconfig {} {}\n\
             data-ciphers AES-256-GCM\ndisable-dco\nfast-io\ntun-mtu {MTU}\nmssfix 0\n\
             sndbuf {SOCKET_BUFFER}\nrcvbuf {SOCKET_BUFFER}\ntxqueuelen 1000\nverb 3\n",
            pair.hosts()[other].addr4(),
            path(host, "host.crt")?,
            path(host, "host.key")?,
            prints[other],
            INNER[own],
            INNER[other],
        );
        let file = write(host, "openvpn.conf", &config)?;
        daemons.push(host.start(&[found.program()?, "--config", &file])?);
    }
    Running::of_daemons(daemons, pair)
}

/// Makes a key and a certificate, and returns the certificate's fingerprint.
fn certificate(host: &Host, name: &str) -> Result<String> {
    let (cert, key, subject) = (path(host, "host.crt")?, path(host, "host.key")?, format!("/CN={name}"));
    let new =
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let names = ["-keyout", &key, "-out", &cert, "-days", "30", "-subj", &subject];
    host.run(&[&new[..], &names].concat())?.ok()?;
    let print = host.run(&["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", &cert])?.ok()?;
    Ok(print.trim().split_once('=').context("find the fingerprint of a certificate")?.1.to_owned())
}

/// Writes a file of a host and returns its path.
fn write(host: &Host, name: &str, text: &str) -> Result<String> {
    let file = path(host, name)?;
    fs::write(&file, text).with_context(|| format!("write {file}"))?;
    Ok(file)
}
