//! A node: containerd, kubelet and kube-proxy, with our daemon, our plugin and our agent.

use std::fs;

use anyhow::{Context, Result};
use mesh_lab::{Containerd, Host, Process, program};

use super::control::{Control, GATES, start};
use super::programs::Programs;

/// What a machine with few rights and control groups of version 1 needs, and no more.
const KUBELET: &str = r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: AUTHORITY}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
oomScoreAdj: 0
failSwapOn: false
enforceNodeAllocatable: []
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "1Mi"}
resolvConf: ""
serializeImagePulls: false
nodeStatusUpdateFrequency: 2s
featureGates: {IPv6DualStack: true}
"#;

/// A node; it ends when dropped.
#[derive(Debug)]
pub struct Node<'lab> {
    /// Where it runs.
    pub host: &'lab Host,
    /// Its agent, to be killed and started again.
    pub agent: Option<Process>,
    agent_line: Vec<String>,
    _containerd: Containerd<'lab>,
    _processes: Vec<Process>,
}

impl<'lab> Node<'lab> {
    /// Starts everything; the agent has a token of its account in the cluster and one to join the mesh, and
    /// installs the network's configuration once it has told meshd what it knows.
    pub fn start(
        host: &'lab Host,
        control: &Control<'_>,
        programs: &Programs,
        pools: &[String; 2],
        token: &str,
        join_token: &str,
    ) -> Result<Self> {
        let name = host.name();
        let containerd = Containerd::start(host)?;
        let keys = &control.keys;
        keys.issue(name, &format!("system:node:{name}"), "system:nodes", "")?;
        let config = host.dir().join("kubelet.yaml");
        fs::write(&config, KUBELET.replace("AUTHORITY", &keys.authority(host.dir())?))
            .context("write the kubelet's configuration")?;
        let options = [
            format!("--config={}", config.display()),
            format!("--kubeconfig={}", keys.kubeconfig(name, host.dir())?),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", host.addr4()),
            "--container-runtime=remote".to_owned(),
            "--container-runtime-endpoint=unix:///run/containerd/containerd.sock".to_owned(),
            format!("--cert-dir={}", host.dir().join("kubelet").display()),
        ];
        let kubelet = start(host, programs, "kubelet", &options)?;
        let proxy_keys = format!("proxy-{name}");
        keys.issue(&proxy_keys, "system:kube-proxy", "", "")?;
        let options = [
            format!("--kubeconfig={}", keys.kubeconfig(&proxy_keys, host.dir())?),
            format!("--hostname-override={name}"),
            "--proxy-mode=iptables".to_owned(),
            // In later versions: the names of our links. In this one: the pool.
            format!("--cluster-cidr={}", pools.join(",")),
            "--conntrack-max-per-core=0".to_owned(),
            "--conntrack-tcp-timeout-established=0".to_owned(),
            "--conntrack-tcp-timeout-close-wait=0".to_owned(),
            GATES.to_owned(),
        ];
        let proxy = start(host, programs, "kube-proxy", &options)?;
        let agent_config = keys.kubeconfig_of_token(token, &host.dir().join("agent.kubeconfig"))?;
        let join = host.dir().join("join");
        fs::create_dir_all(&join).context("make a directory for tokens")?;
        fs::write(join.join(name), join_token).context("write a token")?;
        let mut node = Self {
            host,
            agent: None,
            agent_line: agent_line(host, pools, &agent_config)?,
            _containerd: containerd,
            _processes: vec![kubelet, proxy],
        };
        node.start_agent()?;
        Ok(node)
    }

    /// Starts the agent.
    pub fn start_agent(&mut self) -> Result<()> {
        let line: Vec<&str> = self.agent_line.iter().map(String::as_str).collect();
        self.agent = Some(self.host.start(&line)?);
        Ok(())
    }
}

fn agent_line(host: &Host, pools: &[String; 2], config: &str) -> Result<Vec<String>> {
    // As the first container of the DaemonSet does: the plugin lies there before any configuration names it.
    let plugin = program("meshd-cni")?.display().to_string();
    host.run(&[&plugin, "install", "--bin-dir", "/opt/cni/bin"])?.ok()?;
    let socket = host.run_dir().join("plugin.sock").display().to_string();
    let api = host.socket().display().to_string();
    let join = host.dir().join("join").display().to_string();
    let ready = host.run_dir().join("k8s.ready").display().to_string();
    let agent = program("meshd-k8s")?.display().to_string();
    let [pool4, pool6] = pools;
    let line = [
        &agent,
        "run",
        "--kubeconfig",
        config,
        "--node",
        host.name(),
        "--socket",
        &socket,
        "--ready-file",
        &ready,
        "--join-tokens",
        &join,
        "--api-socket",
        &api,
        "--",
        &plugin,
        "install",
        "--conf-dir",
        "/etc/cni/net.d",
        "--socket",
        &socket,
        "--wait",
        "30",
        "--policy",
        "required",
        "--pool4",
        pool4,
        "--pool6",
        pool6,
    ];
    Ok(line.map(str::to_owned).to_vec())
}
