//! What may be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use meshd_api::PLUGIN_SOCKET_DEFAULT;

/// Where Docker looks for a plugin of this name.
const SOCKET_DEFAULT: &str = "/run/docker/plugins/meshd.sock";

/// Where Docker's own API is.
const DOCKER_SOCKET_DEFAULT: &str = "/var/run/docker.sock";

/// What `--help` shows.
pub const HELP: &str = "\
Docker's network and IPAM driver `meshd`. It runs until SIGTERM or SIGINT.

usage: meshd-docker [options]

  --socket PATH          where Docker asks [/run/docker/plugins/meshd.sock]
  --daemon-socket PATH   where meshd listens to plugins [/run/meshd/plugin.sock]
  --docker-socket PATH   where Docker tells names and labels of containers [/var/run/docker.sock]
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
    /// Where Docker's own API is.
    pub docker_socket: PathBuf,
}

impl Order {
    /// Understands the words, or says what is wrong with them.
    pub fn parse(words: &[OsString]) -> Result<Self, String> {
        let mut serve = Serve {
            socket: SOCKET_DEFAULT.into(),
            daemon_socket: PLUGIN_SOCKET_DEFAULT.into(),
            docker_socket: DOCKER_SOCKET_DEFAULT.into(),
        };
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
                "--docker-socket" => &mut serve.docker_socket,
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
    fn all_sockets_have_a_place_unless_they_are_named() {
        let serve = |socket: &str, daemon: &str, docker: &str| {
            let [socket, daemon_socket, docker_socket] = [socket, daemon, docker].map(PathBuf::from);
            Ok(Order::Serve(Serve { socket, daemon_socket, docker_socket }))
        };
        let usual = ["/run/docker/plugins/meshd.sock", "/run/meshd/plugin.sock", "/var/run/docker.sock"];
        assert_eq!(parse(""), serve(usual[0], usual[1], usual[2]));
        assert_eq!(parse("--socket a --daemon-socket=b --docker-socket c"), serve("a", "b", "c"));
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
