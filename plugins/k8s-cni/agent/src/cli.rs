//! What may be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use meshd_api::{PLUGIN_SOCKET_DEFAULT, SOCKET_DEFAULT};

/// Where the agent says that it is ready.
const READY_FILE: &str = "/run/meshd/k8s.ready";

/// Brings the network policies of a Kubernetes cluster to meshd.
#[derive(Debug, Parser)]
#[command(name = "meshd-k8s", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Watch the cluster and keep meshd on this node told.
    Run(Run),
    /// Print what meshd would be told about the objects of files.
    Rules(Rules),
    /// Succeed if pods can be attached and the agent of this node has told meshd all it knows.
    Ready(Ready),
}

/// Where meshd is, and which network is meant.
#[derive(Debug, Args)]
pub struct Target {
    /// Network of the pods, the name in the CNI configuration.
    #[arg(long, value_name = "NAME", env = "MESHD_NETWORK", default_value = "meshd")]
    pub network: String,
    /// Where meshd listens to plugins.
    #[arg(long, value_name = "PATH", env = "MESHD_SOCKET", default_value = PLUGIN_SOCKET_DEFAULT)]
    pub socket: PathBuf,
}

/// Options of `ready`.
#[derive(Debug, Args)]
pub struct Ready {
    /// File of the agent.
    #[arg(long, value_name = "PATH", env = "MESHD_READY_FILE", default_value = READY_FILE)]
    pub ready_file: PathBuf,
    /// Where meshd listens to plugins.
    #[arg(long, value_name = "PATH", env = "MESHD_SOCKET", default_value = PLUGIN_SOCKET_DEFAULT)]
    pub socket: PathBuf,
}

/// Options of the agent.
#[derive(Debug, Args)]
pub struct Run {
    /// meshd.
    #[command(flatten)]
    pub target: Target,
    /// Name of this node in the cluster.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node: String,
    /// How to reach the API server; without it as any pod of the cluster does.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Directory with a token for each node that has not joined yet, in a file of the node's name.
    #[arg(long, value_name = "DIR")]
    pub join_tokens: Option<PathBuf>,
    /// Where meshd listens to its administrator, to join.
    #[arg(long, value_name = "PATH", default_value = SOCKET_DEFAULT)]
    pub api_socket: PathBuf,
    /// File that is there while meshd has been told all that the agent knows.
    #[arg(long, value_name = "PATH", env = "MESHD_READY_FILE", default_value = READY_FILE)]
    pub ready_file: PathBuf,
    /// Command to run once meshd knows the policies, again until it succeeds: `meshd-cni install …`.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Options of `rules`.
#[derive(Debug, Args)]
pub struct Rules {
    /// meshd.
    #[command(flatten)]
    pub target: Target,
    /// File with objects, YAML or JSON, `-` for standard input; several are read as one.
    #[arg(long, value_name = "FILE", required = true)]
    pub file: Vec<PathBuf>,
    /// Only what concerns pods of this node; without it those of all.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Tell meshd too.
    #[arg(long)]
    pub apply: bool,
}
