//! What may be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use meshd_api::PLUGIN_SOCKET_DEFAULT;

/// Where Docker looks for a plugin of this name.
const SOCKET_DEFAULT: &str = "/run/docker/plugins/meshd.sock";

/// What `--help` shows.
pub const HELP: &str = "\
Docker's network and IPAM driver `meshd`. It runs until SIGTERM or SIGINT.

usage: meshd-docker [options]

  --socket PATH          where Docker asks [/run/docker/plugins/meshd.sock]
  --daemon-socket PATH   where meshd listens to plugins [/run/meshd/plugin.sock]
  --version              tell the version
  --help                 show this";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// Show what may be typed.
    Help,
    /// Tell the version.
    Version,
    /// Serve Docker.
    Serve(Serve),
}

/// Where to listen and whom to ask.
#[derive(Debug, PartialEq, Eq)]
pub struct Serve {
    /// Where Docker asks.
    pub socket: PathBuf,
    /// Where meshd listens.
    pub daemon_socket: PathBuf,
}

impl Order {
    /// Understands the words, or says what is wrong with them.
    pub fn parse(words: &[OsString]) -> Result<Self, String> {
        let mut serve = Serve { socket: SOCKET_DEFAULT.into(), daemon_socket: PLUGIN_SOCKET_DEFAULT.into() };
        let mut words = words.iter().map(|word| word.to_str().ok_or(format!("{word:?} is no text")));
        while let Some(word) = words.next().transpose()? {
            match word {
                "--help" | "-h" => return Ok(Self::Help),
                "--version" | "-V" => return Ok(Self::Version),
                _ => {}
            }
            let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
            let place = match key {
                "--socket" => &mut serve.socket,
                "--daemon-socket" => &mut serve.daemon_socket,
                _ => return Err(format!("unknown option {key}")),
            };
            let value = value.map_or_else(|| words.next().transpose(), |value| Ok(Some(value)))?;
            *place = value.filter(|value| !value.is_empty()).ok_or(format!("{key} has no value"))?.into();
        }
        Ok(Self::Serve(serve))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Order, String> {
        Order::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn both_sockets_have_a_place_unless_they_are_named() {
        let serve = |socket: &str, daemon: &str| {
            Ok(Order::Serve(Serve { socket: socket.into(), daemon_socket: daemon.into() }))
        };
        assert_eq!(parse(""), serve("/run/docker/plugins/meshd.sock", "/run/meshd/plugin.sock"));
        assert_eq!(parse("--socket a --daemon-socket=b"), serve("a", "b"));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (line, wrong) in [
            ("serve", "unknown option serve"),
            ("--socke a", "unknown option --socke"),
            ("--socket", "--socket has no value"),
            ("--daemon-socket=", "--daemon-socket has no value"),
        ] {
            assert_eq!(parse(line), Err(wrong.to_owned()), "{line}");
        }
        assert_eq!(parse("--socket a --help"), Ok(Order::Help));
        assert_eq!(parse("-V"), Ok(Order::Version));
    }
}
