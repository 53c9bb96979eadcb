//! Real etcd, started on loopback.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_client::{Certificate, ConnectOptions, TlsOptions};
use meshd_registry::{Endpoint, EtcdTls, Registry};
use tempfile::TempDir;

use super::backend::{Backend, PATIENCE, PREFIX, free_port};
use super::certificates::{Authority, Identity};

/// Starts beyond the first, in case another process took a port in between.
const START_TRIES: usize = 5;
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// One etcd process; killed by its id when dropped.
struct Member {
    name: String,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Member {
    fn spawn(&mut self) {
        // setpriv ends the server with the test, also when that is killed.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "etcd", "--logger", "zap", "--log-level", "error"])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.expect("setpriv (Debian's package util-linux) runs"));
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("own child can be killed");
            process.wait().expect("own child can be waited for");
        }
    }

    fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.try_wait().is_ok_and(|status| status.is_some()))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn require_etcd() {
    let found = Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "the contract needs a real etcd: install Debian's package etcd-server"
    );
}

/// A started cluster of one or several members.
struct Cluster {
    members: Vec<Member>,
    client_urls: Vec<String>,
    _dir: TempDir,
}

impl Cluster {
    async fn start(size: usize, tls: Option<&[(&str, String)]>) -> Self {
        require_etcd();
        for _ in 0..START_TRIES {
            let mut cluster = Self::prepare(size, tls);
            for member in &mut cluster.members {
                member.spawn();
            }
            if cluster.listens().await {
                return cluster;
            }
        }
        panic!("etcd did not start, {START_TRIES} times");
    }

    fn prepare(size: usize, tls: Option<&[(&str, String)]>) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let peers: Vec<String> = (0..size).map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
        let client_urls: Vec<String> =
            (0..size).map(|_| format!("{scheme}://127.0.0.1:{}", free_port())).collect();
        let all: Vec<String> = peers.iter().enumerate().map(|(i, peer)| format!("m{i}={peer}")).collect();
        let mut members = Vec::new();
        for (index, (peer, client)) in peers.iter().zip(&client_urls).enumerate() {
            let name = format!("m{index}");
            let data = dir.path().join(&name);
            let mut arguments: Vec<String> = [
                ("--name", name.clone()),
                ("--data-dir", data.display().to_string()),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client.clone()),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer.clone()),
                ("--initial-cluster", all.join(",")),
                ("--initial-cluster-state", String::from("new")),
            ]
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect();
            for (name, value) in tls.into_iter().flatten() {
                arguments.extend([(*name).to_owned(), value.clone()]);
            }
            if tls.is_some() {
                arguments.push(String::from("--client-cert-auth"));
            }
            members.push(Member { name, arguments, process: None });
        }
        Self { members, client_urls, _dir: dir }
    }

    /// Waits until every client port accepts; false if a member has ended instead.
    async fn listens(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        for index in 0..self.members.len() {
            let address = self.client_urls[index].split("//").nth(1).expect("own URL").to_owned();
            while tokio::net::TcpStream::connect(&address).await.is_err() {
                if self.members[index].has_ended() {
                    return false;
                }
                assert!(Instant::now() < deadline, "etcd {} does not listen", self.members[index].name);
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
        true
    }

    async fn restart(&mut self) {
        for member in &mut self.members {
            member.kill();
        }
        for member in &mut self.members {
            member.spawn();
        }
        assert!(self.listens().await, "etcd did not start again");
    }
}

/// Waits until the cluster has a leader.
async fn serves(endpoints: Vec<Endpoint>) {
    let registry = Registry::connect(endpoints).await.expect("endpoints are valid");
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = registry.get(PREFIX).await {
        assert!(Instant::now() < deadline, "etcd does not serve: {error}");
    }
}

/// One etcd without TLS.
pub struct SingleEtcd(Cluster);

impl Backend for SingleEtcd {
    async fn start() -> Self {
        let backend = Self(Cluster::start(1, None).await);
        serves(backend.endpoints()).await;
        backend
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::etcd(self.0.client_urls.clone())]
    }

    async fn raw(&self) -> etcd_client::Client {
        etcd_client::Client::connect(&self.0.client_urls, None).await.expect("URLs are valid")
    }

    async fn restart(&mut self) {
        self.0.restart().await;
        serves(self.endpoints()).await;
    }
}

/// Three members, the first of which dies when disturbed: the one that clients are connected to.
pub struct EtcdCluster(Cluster);

impl Backend for EtcdCluster {
    async fn start() -> Self {
        let backend = Self(Cluster::start(3, None).await);
        serves(backend.endpoints()).await;
        backend
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::etcd(self.0.client_urls.clone())]
    }

    async fn raw(&self) -> etcd_client::Client {
        // The bare client does not fail over: it gets a member that stays.
        etcd_client::Client::connect(&self.0.client_urls[1..], None).await.expect("URLs are valid")
    }

    async fn disturb(&mut self) {
        self.0.members[0].kill();
    }

    async fn restart(&mut self) {
        self.0.restart().await;
        serves(self.endpoints()).await;
    }
}

/// One etcd that knows its clients by certificate; the suite's may use its prefix only.
pub struct EtcdBehindTls {
    cluster: Cluster,
    ca: String,
    identity: Identity,
    _files: TempDir,
}

impl EtcdBehindTls {
    fn write(dir: &Path, name: &str, text: &str) -> String {
        let path = dir.join(name);
        fs::write(&path, text).expect("temporary folder takes files");
        path.display().to_string()
    }

    /// Makes the users and turns on authentication, as an operator would.
    fn set_up_users(url: &str, files: &[String; 3]) {
        let [ca, certificate, key] = files;
        let steps: [&[&str]; 7] = [
            &["user", "add", "root", "--no-password"],
            &["user", "grant-role", "root", "root"],
            &["user", "add", "mesh", "--no-password"],
            &["role", "add", "mesh"],
            &["role", "grant-permission", "mesh", "readwrite", PREFIX, "--prefix=true"],
            &["user", "grant-role", "mesh", "mesh"],
            &["auth", "enable"],
        ];
        for step in steps {
            let output = Command::new("etcdctl")
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", url, "--cacert", ca, "--cert", certificate, "--key", key])
                .args(step)
                .output()
                .expect("etcdctl runs: Debian's package etcd-client");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() || told.contains("already exists"), "etcdctl {step:?}: {told}");
        }
    }

    fn tls(&self) -> EtcdTls {
        EtcdTls {
            ca: self.ca.clone().into_bytes(),
            identity: Some((self.identity.certificate.clone().into(), self.identity.key.clone().into())),
        }
    }
}

impl Backend for EtcdBehindTls {
    async fn start() -> Self {
        let files = tempfile::tempdir().expect("temporary folder");
        let authority = Authority::new();
        let (server, root) = (authority.issue("server"), authority.issue("root"));
        let ca = Self::write(files.path(), "ca.pem", &authority.certificate);
        let arguments = [
            ("--trusted-ca-file", ca.clone()),
            ("--cert-file", Self::write(files.path(), "server.pem", &server.certificate)),
            ("--key-file", Self::write(files.path(), "server.key", &server.key)),
        ];
        let cluster = Cluster::start(1, Some(&arguments)).await;
        let root_files = [
            ca,
            Self::write(files.path(), "root.pem", &root.certificate),
            Self::write(files.path(), "root.key", &root.key),
        ];
        Self::set_up_users(&cluster.client_urls[0], &root_files);
        let identity = authority.issue("mesh");
        let backend = Self { cluster, ca: authority.certificate, identity, _files: files };
        serves(backend.endpoints()).await;
        backend
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::Etcd { urls: self.cluster.client_urls.clone(), tls: Some(self.tls()) }]
    }

    async fn raw(&self) -> etcd_client::Client {
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(etcd_client::Identity::from_pem(&self.identity.certificate, &self.identity.key));
        let options = ConnectOptions::new().with_tls(tls);
        etcd_client::Client::connect(&self.cluster.client_urls, Some(options)).await.expect("URLs are valid")
    }

    async fn restart(&mut self) {
        self.cluster.restart().await;
        serves(self.endpoints()).await;
    }
}
