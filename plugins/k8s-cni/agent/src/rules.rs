//! `meshd-k8s rules`: what meshd would be told, for people to read before it is so.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use meshd_api::Client;

use crate::cli::Rules;
use crate::cluster::Cluster;
use crate::compile::{Compiled, WEIGHT_MAX, compile};
use crate::objects;

/// Largest file read: all pods of a large cluster fit.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Prints the request, and makes it if that is wanted.
pub async fn run(options: &Rules) -> Result<()> {
    let mut cluster = Cluster::default();
    for path in &options.file {
        let text = read(path).with_context(|| format!("read {}", path.display()))?;
        objects::read(&text, &mut cluster).with_context(|| format!("understand {}", path.display()))?;
    }
    objects::complete_namespaces(&mut cluster);
    let Compiled { request, faults, .. } =
        compile(&cluster, &options.target.network, options.node.as_deref(), WEIGHT_MAX);
    let faults: Vec<String> = cluster.faults().chain(faults).collect();
    if !faults.is_empty() {
        bail!("understand the policies: {}", faults.join("; "));
    }
    let text = serde_json::to_string_pretty(&request).context("write the rules as JSON")?;
    writeln!(std::io::stdout(), "{text}").context("write to standard output")?;
    if options.apply {
        let answer = Client::new(&options.target.socket).call(&request).await.context("tell meshd")?;
        eprintln!("{} endpoints of this host are under these rules", answer.body.endpoints);
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let from: Box<dyn Read> =
        if path == Path::new("-") { Box::new(std::io::stdin()) } else { Box::new(File::open(path)?) };
    let read = from.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read == FILE_BYTES_MAX) {
        bail!("it is longer than {FILE_BYTES_MAX} bytes");
    }
    Ok(text)
}
