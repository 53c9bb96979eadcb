//! The configuration among the networks.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::chain::Chain;
use super::file;
use super::options::Install;
use crate::configuration::{self, Settings};
use crate::document::Object;
use crate::failure::{Code, Failure};

/// Type of this plugin in configurations.
const TYPE: &str = "meshd";

/// Endings of files that runtimes read.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

/// This plugin's part of the configuration, from settings that it accepts itself.
pub fn own_part(install: &Install) -> Result<Value, Failure> {
    let mut plugin = install.settings.clone();
    plugin.insert("name".to_owned(), install.name.clone().into());
    let root = Object::root(&plugin);
    configuration::name(&root)?;
    Settings::read(&root)?;
    plugin.remove("name");
    plugin.insert("type".to_owned(), TYPE.into());
    plugin.insert(
        "capabilities".to_owned(),
        json!({"ips": true, "mac": true, "dns": true, "aliases": true, "io.kubernetes.cri.pod-annotations": true}),
    );
    Ok(plugin.into())
}

/// The configuration's text.
pub fn text(name: &str, own: Value, chain: &Chain) -> String {
    let plugins: Vec<Value> = std::iter::once(own).chain(chain.plugins.iter().cloned()).collect();
    let list = json!({
        "cniVersion": chain.first_version(),
        "cniVersions": chain.versions,
        "name": name,
        "plugins": plugins,
    });
    format!("{list:#}\n")
}

/// Writes it, unless somebody else's stands there.
pub fn install(dir: &Path, file: &str, name: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = dir.join(file);
    if let Some(bytes) = file::read(&path)? {
        let old = own_name(&bytes).ok_or_else(|| file::foreign(&path))?;
        if old != name {
            let renamed = format!("{} is of network {old:?}, not {name:?}", path.display());
            return Err(Failure::new(Code::Taken, renamed)
                .with("a new name would leave port mappings of running containers behind"));
        }
    }
    file::replace(&path, text.as_bytes(), 0o644)?;
    Ok(path)
}

/// Name of the network, if the configuration is one of this plugin.
fn own_name(bytes: &[u8]) -> Option<String> {
    let list: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    let is_ours = |plugin: &Value| plugin.get("type").is_some_and(|name| name == TYPE);
    let is_own = list.get("plugins")?.as_array()?.iter().any(is_ours);
    is_own.then(|| list.get("name").and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// Configurations that runtimes prefer: they take the first by name.
pub fn earlier(dir: &Path, file: &str) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.as_str() < file && ENDINGS.iter().any(|ending| has_ending(name, ending)))
        .collect();
    names.sort();
    names
}

fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == ending)
}
