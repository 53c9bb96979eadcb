//! The control plane: etcd, API server, controllers and scheduler on one machine, and kubectl.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use mesh_lab::{Host, Output, Process, wait};
use serde_json::Value;

use super::keys::Keys;
use super::programs::Programs;

/// Where Services have their addresses, and the first of them, which is the API server's.
pub const SERVICES: &str = "10.96.0.0/16,fd00:96::/112";
const FIRST_SERVICE: &str = "10.96.0.1";

/// In this version pods with addresses of both families are behind a gate.
pub const GATES: &str = "--feature-gates=IPv6DualStack=true";

/// Time the components get to come up on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Time a call of kubectl gets.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// A control plane; it ends when dropped.
#[derive(Debug)]
pub struct Control<'lab> {
    /// Where it runs.
    host: &'lab Host,
    /// Who is who.
    pub keys: Keys,
    kubectl: String,
    admin: String,
    processes: Vec<Process>,
}

impl<'lab> Control<'lab> {
    /// Starts it, and waits until it answers.
    pub fn start(host: &'lab Host, programs: &Programs) -> Result<Self> {
        let address = host.addr4().to_string();
        let keys = Keys::new(host.dir().join("keys"), format!("https://{address}:6443"))?;
        keys.issue(
            "server",
            "kube-apiserver",
            "",
            &format!("IP:{address},IP:{FIRST_SERVICE},DNS:kubernetes"),
        )?;
        keys.issue("admin", "admin", "system:masters", "")?;
        keys.issue("controllers", "system:kube-controller-manager", "", "")?;
        keys.issue("scheduler", "system:kube-scheduler", "", "")?;
        let admin = keys.kubeconfig("admin", host.dir())?;
        let kubectl = programs.path("kubectl").display().to_string();
        let mut control = Self { host, keys, kubectl, admin, processes: Vec::new() };
        control.etcd()?;
        control.api_server(programs, &address)?;
        wait::until(START_DEADLINE, "the API server answers", || {
            control.kubectl(&["get", "--raw=/readyz"]).is_ok_and(|output| output.code == 0)
        })?;
        control.controllers(programs)?;
        Ok(control)
    }

    /// Calls kubectl as an administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        let start = [self.kubectl.as_str(), "--kubeconfig", &self.admin, "--cache-dir=/run/kubectl"];
        self.host.run_within(CALL_DEADLINE, &[&start[..], arguments].concat())
    }

    /// Calls kubectl, which must succeed.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl(arguments)?.ok()
    }

    /// Makes or changes objects.
    pub fn apply(&self, objects: &str) -> Result<()> {
        let path = self.host.dir().join("objects.yaml");
        fs::write(&path, objects).with_context(|| format!("write {}", path.display()))?;
        self.ok(&["apply", "--filename", &path.display().to_string()]).map(drop)
    }

    /// Replaces what stands at a path of the API.
    pub fn replace(&self, path: &str, object: &Value) -> Result<()> {
        let file = self.host.dir().join("object.json");
        fs::write(&file, object.to_string()).with_context(|| format!("write {}", file.display()))?;
        self.ok(&["replace", "--raw", path, "--filename", &file.display().to_string()]).map(drop)
    }

    /// The machine it runs on.
    pub fn host(&self) -> &Host {
        self.host
    }

    /// Reads objects.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.ok(&[&["get", "--output=json"], arguments].concat())?;
        serde_json::from_str(&text).context("read what kubectl printed")
    }

    /// Starts kubectl beside; its output goes to its log.
    pub fn follow(&self, arguments: &[&str]) -> Result<Process> {
        let start = [self.kubectl.as_str(), "--kubeconfig", &self.admin, "--cache-dir=/run/kubectl"];
        self.host.start(&[&start[..], arguments].concat())
    }

    /// What kubectl that was started beside has said until now.
    pub fn followed(&self) -> String {
        fs::read_to_string(self.host.log("kubectl")).unwrap_or_default()
    }

    fn etcd(&mut self) -> Result<()> {
        let data = self.host.dir().join("etcd").display().to_string();
        let url = "http://127.0.0.1:2379";
        let line = [
            "etcd",
            "--data-dir",
            &data,
            "--listen-client-urls",
            url,
            "--advertise-client-urls",
            url,
            "--listen-peer-urls",
            "http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        ];
        self.processes.push(self.host.start(&line)?);
        Ok(())
    }

    fn api_server(&mut self, programs: &Programs, address: &str) -> Result<()> {
        let keys = &self.keys;
        let options = [
            format!("--advertise-address={address}"),
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--service-cluster-ip-range={SERVICES}"),
            format!("--client-ca-file={}", keys.path("ca.crt")),
            format!("--tls-cert-file={}", keys.path("server.crt")),
            format!("--tls-private-key-file={}", keys.path("server.key")),
            format!("--kubelet-client-certificate={}", keys.path("admin.crt")),
            format!("--kubelet-client-key={}", keys.path("admin.key")),
            format!("--service-account-key-file={}", keys.path("accounts.key")),
            format!("--service-account-signing-key-file={}", keys.path("accounts.key")),
            "--service-account-issuer=https://lab".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--allow-privileged".to_owned(),
            // The names of nodes are in no DNS.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            GATES.to_owned(),
        ];
        let process = start(self.host, programs, "kube-apiserver", &options)?;
        self.processes.push(process);
        Ok(())
    }

    fn controllers(&mut self, programs: &Programs) -> Result<()> {
        let keys = &self.keys;
        let options = [
            format!("--kubeconfig={}", keys.kubeconfig("controllers", self.host.dir())?),
            format!("--root-ca-file={}", keys.path("ca.crt")),
            format!("--service-account-private-key-file={}", keys.path("accounts.key")),
            "--use-service-account-credentials".to_owned(),
            "--leader-elect=false".to_owned(),
            GATES.to_owned(),
        ];
        let controllers = start(self.host, programs, "kube-controller-manager", &options)?;
        let options = [
            format!("--kubeconfig={}", keys.kubeconfig("scheduler", self.host.dir())?),
            "--leader-elect=false".to_owned(),
        ];
        let scheduler = start(self.host, programs, "kube-scheduler", &options)?;
        self.processes.extend([controllers, scheduler]);
        Ok(())
    }
}

/// Starts a program of Kubernetes on a host.
pub fn start(host: &Host, programs: &Programs, name: &str, options: &[String]) -> Result<Process> {
    let program = programs.path(name).display().to_string();
    let line: Vec<&str> =
        std::iter::once(program.as_str()).chain(options.iter().map(String::as_str)).collect();
    host.start(&line)
}
