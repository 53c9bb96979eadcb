//! The plugin, called as the library of CNI calls it, without a runtime.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, Namespace, Output, Process, program};
use serde_json::{Value, json};

use crate::pools::Pools;

/// The interface that all of them get.
pub const IFNAME: &str = "eth0";

/// A network namespace with the name of a container.
#[derive(Debug, Clone)]
pub struct Sandbox {
    pub container: String,
    pub path: String,
    pub namespace: Namespace,
}

impl Sandbox {
    /// Makes one; it goes with the lab.
    pub fn new(host: &Host, container: &str) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-{container}", host.namespace().name()))?;
        let path = format!("/run/netns/{}", namespace.name());
        Ok(Self { container: container.to_owned(), path, namespace })
    }
}

/// A network of the plugin on a host.
#[derive(Debug, Clone)]
pub struct Network<'lab> {
    host: &'lab Host,
    fields: Value,
}

/// What the plugin said.
#[derive(Debug, Clone)]
pub struct Said {
    pub output: Output,
    pub json: Value,
}

impl<'lab> Network<'lab> {
    pub fn new(host: &'lab Host, name: &str, pools: &Pools) -> Self {
        let fields = json!({
            "cniVersion": "1.1.0", "name": name, "type": "meshd", "pool4": pools.v4, "pool6": pools.v6,
            "socket": host.run_dir().join("plugin.sock"),
        });
        Self { host, fields }
    }

    /// The same with other or more keys.
    pub fn with(&self, more: &Value) -> Self {
        let mut network = self.clone();
        for (key, value) in more.as_object().into_iter().flatten() {
            network.fields[key] = value.clone();
        }
        network
    }

    pub fn host(&self) -> &'lab Host {
        self.host
    }

    pub fn call(&self, verb: &str, sandbox: &Sandbox) -> Result<Said> {
        self.say(verb, sandbox, &self.fields.to_string())
    }

    /// Calls with a configuration of these words.
    pub fn say(&self, verb: &str, sandbox: &Sandbox, words: &str) -> Result<Said> {
        let output = self.host.run(&self.line(verb, sandbox, words)?)?;
        let json = serde_json::from_str(&output.stdout).unwrap_or(Value::Null);
        Ok(Said { output, json })
    }

    /// Begins a call, to end it before it ends.
    pub fn begin(&self, verb: &str, sandbox: &Sandbox) -> Result<Process> {
        self.host.start(&self.line(verb, sandbox, &self.fields.to_string())?)
    }

    /// The addresses of one that must be attached.
    pub fn add(&self, sandbox: &Sandbox) -> Result<Vec<String>> {
        let result = self.call("ADD", sandbox)?.ok()?;
        let ips = result["ips"].as_array().context("addresses")?.iter();
        let addresses = ips.filter_map(|ip| ip["address"].as_str()?.split('/').next());
        Ok(addresses.map(str::to_owned).collect())
    }

    pub fn del(&self, sandbox: &Sandbox) -> Result<()> {
        self.call("DEL", sandbox)?.ok().map(drop)
    }

    /// Says which ones are still known, with this key.
    pub fn gc(&self, key: &str, known: &[&Sandbox]) -> Result<()> {
        let known: Vec<Value> =
            known.iter().map(|one| json!({"containerID": one.container, "ifname": IFNAME})).collect();
        let nobody =
            Sandbox { container: String::new(), path: String::new(), namespace: Namespace::named("") };
        self.with(&json!({ key: known })).call("GC", &nobody)?.ok().map(drop)
    }

    fn line(&self, verb: &str, sandbox: &Sandbox, words: &str) -> Result<Vec<String>> {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let stdin = self.host.dir().join(format!("call-{call}.json"));
        fs::write(&stdin, words).with_context(|| format!("write {}", stdin.display()))?;
        // A pod whose name is that of its container.
        let pod = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=lab;K8S_POD_NAME={}", sandbox.container);
        let mut line = vec!["env".to_owned(), "--ignore-environment".to_owned()];
        for (name, value) in [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", &sandbox.container),
            ("CNI_NETNS", &sandbox.path),
            ("CNI_IFNAME", IFNAME),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", &pod),
        ] {
            line.push(format!("{name}={value}"));
        }
        line.extend(["/bin/sh", "-c", "exec \"$0\" <\"$1\""].map(str::to_owned));
        line.push(program("meshd-cni")?.display().to_string());
        line.push(stdin.display().to_string());
        Ok(line)
    }
}

impl Said {
    /// The result of a call that must succeed.
    pub fn ok(self) -> Result<Value> {
        let Self { output, json } = self;
        ensure!(output.code == 0, "`{}` ended with {}: {}", output.command, output.code, output.stdout);
        Ok(json)
    }

    /// Fails unless this is one error with this number and these words.
    pub fn refused(&self, code: u64, words: &str) -> Result<()> {
        let Self { output, json } = self;
        let told = format!("{} {}", json["msg"].as_str().unwrap_or_default(), json["details"]);
        ensure!(
            output.code == 1 && json["code"] == code && told.contains(words) && output.stderr.is_empty(),
            "wanted were {code} and {words:?}; it ended with {}: {}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        Ok(())
    }
}
