//! A pod of containerd, made by the calls of a kubelet.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::containerd::Containerd;
use crate::cri::Cri;
use crate::cri::messages::{
    ContainerConfig, ContainerMetadata, CreateContainer, ExecSync, Executed, Id, Image, LinuxPodConfig,
    Nothing, PodAnswer, PodConfig, PodMetadata, PortMapping, RunPodSandbox,
};
use crate::image::IMAGE;
use crate::process::Output;

/// Time a command in a pod gets.
const EXEC_DEADLINE: Duration = Duration::from_secs(60);

/// A pod with one container; it stays when dropped, as it does when a kubelet ends.
#[derive(Debug)]
pub struct Pod {
    cri: Cri,
    id: String,
    container: String,
    addresses: Vec<String>,
}

impl Pod {
    /// Runs a pod that publishes these ports, each of the host first; it sleeps if it is told no command.
    pub fn run(
        containerd: &Containerd<'_>,
        name: &str,
        ports: &[(u16, u16)],
        command: &[&str],
    ) -> Result<Self> {
        Self::run_annotated(containerd, name, &[], ports, command)
    }

    /// As [`Pod::run`], with annotations that tell its runtime more.
    pub fn run_annotated(
        containerd: &Containerd<'_>,
        name: &str,
        annotations: &[(&str, &str)],
        ports: &[(u16, u16)],
        command: &[&str],
    ) -> Result<Self> {
        let cri = containerd.cri()?;
        let mapping = |(host, container): &(u16, u16)| PortMapping {
            host_port: i32::from(*host),
            container_port: i32::from(*container),
        };
        let metadata = PodMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
        };
        let config = PodConfig {
            metadata: Some(metadata),
            hostname: name.to_owned(),
            port_mappings: ports.iter().map(mapping).collect(),
            annotations: annotations
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            linux: Some(LinuxPodConfig { cgroup_parent: "/pods".to_owned() }),
        };
        let Id { id } = cri.call("RunPodSandbox", RunPodSandbox { config: Some(config.clone()) })?;
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_owned() }),
            image: Some(Image { image: IMAGE.to_owned() }),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        };
        let create = CreateContainer { pod: id.clone(), config: Some(container), pod_config: Some(config) };
        let Id { id: container } = cri.call("CreateContainer", create)?;
        let _started: Nothing = cri.call("StartContainer", Id { id: container.clone() })?;
        let answer: PodAnswer = cri.call("PodSandboxStatus", Id { id: id.clone() })?;
        let network = answer.status.and_then(|status| status.network).context("a pod without a network")?;
        let others = network.additional.into_iter().map(|address| address.ip);
        let addresses = std::iter::once(network.ip).chain(others).collect();
        Ok(Self { cri, id, container, addresses })
    }

    /// Its addresses, in the order in which the network gave them.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Runs a command in its container.
    pub fn exec(&self, line: &[&str]) -> Result<Output> {
        let command = line.iter().map(|word| (*word).to_owned()).collect();
        let timeout_s = EXEC_DEADLINE.as_secs().cast_signed();
        let exec = ExecSync { container: self.container.clone(), command, timeout_s };
        let Executed { stdout, stderr, exit_code } = self.cri.call("ExecSync", exec)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { command: line.join(" "), code: exit_code, stdout: text(stdout), stderr: text(stderr) })
    }

    /// Stops and removes it.
    pub fn remove(self) -> Result<()> {
        let _stopped: Nothing = self.cri.call("StopPodSandbox", Id { id: self.id.clone() })?;
        let _removed: Nothing = self.cri.call("RemovePodSandbox", Id { id: self.id })?;
        Ok(())
    }
}
