//! Who is who in the cluster: a certificate for each, and a kubeconfig around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use data_encoding::BASE64;
use mesh_lab::process;

/// Making a key takes some milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// Validity of everything, in days.
const DAYS: &str = "2";

/// The authority of a cluster, in a directory.
#[derive(Debug)]
pub struct Keys {
    dir: PathBuf,
    server: String,
}

impl Keys {
    /// Makes an authority for an API server at this URL.
    pub fn new(dir: PathBuf, server: String) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let keys = Self { dir, server };
        keys.openssl(
            &[&["req", "-x509", "-subj", "/CN=lab", "-days", DAYS], &NEW_KEY[..], &["-keyout", "ca.key"]]
                .concat(),
            "ca.crt",
        )?;
        keys.openssl(&["genpkey", "-algorithm", "RSA"], "accounts.key")?;
        Ok(keys)
    }

    /// Path of a file.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Issues a certificate for a name in a group; `alternatives` are what a server is reached as.
    pub fn issue(&self, file: &str, name: &str, group: &str, alternatives: &str) -> Result<()> {
        let subject = if group.is_empty() { format!("/CN={name}") } else { format!("/O={group}/CN={name}") };
        let key = format!("{file}.key");
        let request = [&["req", "-subj", &subject], &NEW_KEY[..], &["-keyout", &key]].concat();
        self.openssl(&request, &format!("{file}.csr"))?;
        let extensions = format!("{file}.ext");
        let usage = "extendedKeyUsage=serverAuth,clientAuth\n";
        let names =
            if alternatives.is_empty() { String::new() } else { format!("subjectAltName={alternatives}\n") };
        fs::write(self.dir.join(&extensions), format!("{usage}{names}"))
            .context("write what a certificate is for")?;
        let csr = format!("{file}.csr");
        let sign = [
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            DAYS,
            "-extfile",
            &extensions,
        ];
        self.openssl(&sign, &format!("{file}.crt"))
    }

    /// Writes the kubeconfig of who has a certificate into a directory; machines see no other's.
    pub fn kubeconfig(&self, file: &str, dir: &Path) -> Result<String> {
        let (certificate, key) = (self.base64(&format!("{file}.crt"))?, self.base64(&format!("{file}.key"))?);
        let user = format!("client-certificate-data: {certificate}, client-key-data: {key}");
        self.kubeconfig_with(&dir.join(format!("{file}.kubeconfig")), &user)
    }

    /// Writes the kubeconfig of who has a token.
    pub fn kubeconfig_of_token(&self, token: &str, path: &Path) -> Result<String> {
        self.kubeconfig_with(path, &format!("token: {token}"))
    }

    /// Copies the authority's certificate into a directory.
    pub fn authority(&self, dir: &Path) -> Result<String> {
        let path = dir.join("ca.crt");
        fs::copy(self.dir.join("ca.crt"), &path).with_context(|| format!("write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    fn kubeconfig_with(&self, path: &Path, user: &str) -> Result<String> {
        let (server, authority) = (&self.server, self.base64("ca.crt")?);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
             clusters: [{{name: lab, cluster: {{server: '{server}', certificate-authority-data: {authority}}}}}]\n\
             contexts: [{{name: lab, context: {{cluster: lab, user: me}}}}]\n\
             users: [{{name: me, user: {{{user}}}}}]\n"
        );
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    fn base64(&self, name: &str) -> Result<String> {
        let bytes = fs::read(self.dir.join(name)).with_context(|| format!("read {name}"))?;
        Ok(BASE64.encode(&bytes))
    }

    fn openssl(&self, arguments: &[&str], out: &str) -> Result<()> {
        let line = [&["openssl"], arguments, &["-out", out]].concat();
        // File names in the arguments are relative.
        let dir = self.dir.display().to_string();
        let line = [&["env", "--chdir", &dir], &line[..]].concat();
        process::run(&line, None, DEADLINE)?.ok().map(drop)
    }
}

/// A key of a curve that every component knows, without a passphrase.
const NEW_KEY: [&str; 6] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"];
