//! What may be typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use meshd_api::PLUGIN_SOCKET_DEFAULT;
use serde_json::{Map, Value};

/// What `--help` shows.
pub const HELP: &str = "\
The CNI plugin of meshd. Runtimes run it; people install it.

usage: meshd-cni install [--bin-dir DIR] [--conf-dir DIR] [options]

  --bin-dir DIR       copy this program to DIR/meshd
  --conf-dir DIR      write a configuration into DIR as soon as meshd can attach containers
  --file NAME         name of the configuration's file [05-meshd.conflist]
  --name NETWORK      name of the network; never change it while containers run [meshd]
  --pool4 PREFIX      where IPv4 addresses come from
  --pool6 PREFIX      where IPv6 addresses come from
  --allocation HOW    blocks or sequential
  --egress HOW        mesh, runtime or none
  --reach HOW         mesh or network
  --policy HOW        optional or required
  --mtu BYTES         largest packet, if less than the mesh's
  --socket PATH       where meshd listens to plugins [/run/meshd/plugin.sock]
  --wait SECONDS      how long to wait until meshd can attach containers [0]
  --version           tell the version
  --help              show this";

/// Longest wait: a day, so that a mistyped number does not overflow a clock.
const WAIT_S_MAX: u64 = 24 * 60 * 60;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// Show what may be typed.
    Help,
    /// Tell the version.
    Version,
    /// Install.
    Install(Install),
}

/// What is to be installed, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Install {
    /// Directory of plugins.
    pub bin_dir: Option<PathBuf>,
    /// Directory of configurations.
    pub conf_dir: Option<PathBuf>,
    /// Name of the configuration's file.
    pub file: String,
    /// Name of the network.
    pub name: String,
    /// Keys of the configuration.
    pub settings: Map<String, Value>,
    /// Where meshd listens.
    pub socket: PathBuf,
    /// How long to wait for it.
    pub wait: Duration,
}

impl Order {
    /// Understands the words, or says what is wrong with them.
    pub fn parse(words: &[OsString]) -> Result<Self, String> {
        let mut words = words.iter().map(|word| word.to_str().ok_or(format!("{word:?} is no text")));
        match words.next().transpose()? {
            Some("install") => {}
            Some("--help" | "-h") => return Ok(Self::Help),
            Some("--version" | "-V") => return Ok(Self::Version),
            other => return Err(format!("unknown command {:?}", other.unwrap_or_default())),
        }
        let mut install = Install::nothing();
        while let Some(word) = words.next().transpose()? {
            if matches!(word, "--help" | "-h") {
                return Ok(Self::Help);
            }
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, value),
                None => (word, words.next().transpose()?.ok_or(format!("{word} has no value"))?),
            };
            install.set(key, value)?;
        }
        if install.bin_dir.is_none() && install.conf_dir.is_none() {
            return Err("neither --bin-dir nor --conf-dir is given".to_owned());
        }
        Ok(Self::Install(install))
    }
}

impl Install {
    fn nothing() -> Self {
        Self {
            bin_dir: None,
            conf_dir: None,
            file: "05-meshd.conflist".to_owned(),
            name: "meshd".to_owned(),
            settings: Map::new(),
            socket: PLUGIN_SOCKET_DEFAULT.into(),
            wait: Duration::ZERO,
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Err(format!("{key} has no value"));
        }
        let number = || value.parse::<u64>().map_err(|_| format!("{key} is {value:?}, not a number"));
        match key {
            "--bin-dir" => self.bin_dir = Some(value.into()),
            "--conf-dir" => self.conf_dir = Some(value.into()),
            "--file" if value.ends_with(".conflist") && !value.contains('/') => self.file = value.to_owned(),
            "--file" => return Err(format!("--file is {value:?}, not a name that ends with .conflist")),
            "--name" => self.name = value.to_owned(),
            "--pool4" | "--pool6" | "--allocation" | "--egress" | "--reach" | "--policy" => {
                self.put(key, value.into());
            }
            "--mtu" => self.put(key, number()?.into()),
            "--socket" => {
                self.socket = value.into();
                self.put(key, value.into());
            }
            "--wait" => self.wait = Duration::from_secs(number()?.min(WAIT_S_MAX)),
            _ => return Err(format!("unknown option {key}")),
        }
        Ok(())
    }

    fn put(&mut self, option: &str, value: Value) {
        self.settings.insert(option.trim_start_matches('-').to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Order, String> {
        Order::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn every_option_of_the_help_is_understood() {
        let options: Vec<&str> = HELP.lines().filter_map(|line| line.trim().strip_prefix("--")).collect();
        assert_eq!(options.len(), 15);
        for option in options {
            let name = option.split_whitespace().next().expect("a name");
            let value = match name {
                "file" => "9.conflist",
                "mtu" | "wait" => "9",
                "help" | "version" => continue,
                _ => "x",
            };
            for line in [
                format!("install --bin-dir b --{name} {value}"),
                format!("install --bin-dir b --{name}={value}"),
            ] {
                assert!(matches!(parse(&line), Ok(Order::Install(_))), "{line}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (line, wrong) in [
            ("remove", r#"unknown command "remove""#),
            ("install", "neither --bin-dir nor --conf-dir is given"),
            ("install --conf-dir", "--conf-dir has no value"),
            ("install --conf-dir=", "--conf-dir has no value"),
            ("install --pool x", "unknown option --pool"),
            ("install --mtu x", r#"--mtu is "x", not a number"#),
            ("install --file a.conf", r#"--file is "a.conf", not a name that ends with .conflist"#),
            (
                "install --file ../a.conflist",
                r#"--file is "../a.conflist", not a name that ends with .conflist"#,
            ),
        ] {
            assert_eq!(parse(line), Err(wrong.to_owned()), "{line}");
        }
    }

    #[test]
    fn help_is_shown_wherever_it_is_asked_for() {
        assert_eq!(parse("--help"), Ok(Order::Help));
        assert_eq!(parse("install --bin-dir b --help"), Ok(Order::Help));
        assert_eq!(parse("--version"), Ok(Order::Version));
    }
}
