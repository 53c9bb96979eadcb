//! The variables of CNI.

use std::ffi::OsString;
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use meshd_api::Namespace;

use crate::arguments::Arguments;
use crate::failure::{Code, Failure};
use crate::verb::Verb;

/// Longest name of an interface in Linux.
const IFNAME_BYTES_MAX: usize = 15;

/// What the environment says, as it came.
#[derive(Debug, Clone)]
pub struct Environment {
    command: Variable,
    container: Variable,
    namespace: Variable,
    ifname: Variable,
    arguments: Variable,
    socket: Variable,
}

#[derive(Debug, Clone)]
struct Variable {
    name: &'static str,
    value: OsString,
}

/// One interface of one container, by names that are safe to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The container.
    pub container: String,
    /// Its interface.
    pub ifname: String,
}

impl Environment {
    /// Reads the variables; one that is missing is the same as an empty one.
    pub fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name| Variable { name, value: lookup(name).unwrap_or_default() };
        Self {
            command: variable("CNI_COMMAND"),
            container: variable("CNI_CONTAINERID"),
            namespace: variable("CNI_NETNS"),
            ifname: variable("CNI_IFNAME"),
            arguments: variable("CNI_ARGS"),
            socket: variable("MESHD_SOCKET"),
        }
    }

    /// What is asked.
    pub fn verb(&self) -> Result<Verb, Failure> {
        let word = self.command.required().map_err(|failure| failure.with("people see meshd-cni --help"))?;
        let words = Verb::ALL.map(Verb::word).join(", ");
        Verb::of(word).ok_or_else(|| self.command.wrong(&format!("one of {words}")))
    }

    /// About which interface of which container.
    pub fn place(&self) -> Result<Place, Failure> {
        let missing: Vec<&str> = [&self.container, &self.ifname]
            .into_iter()
            .filter(|variable| variable.value.is_empty())
            .map(|variable| variable.name)
            .collect();
        if !missing.is_empty() {
            return Err(Failure::new(Code::Environment, format!("{} missing", missing.join(" and "))));
        }
        let container = self.container.required()?;
        if !is_identifier(container) {
            return Err(self.container.wrong("letters, digits, dots, hyphens and underscores"));
        }
        let ifname = self.ifname.required()?;
        if !is_interface_name(ifname) {
            return Err(self.ifname.wrong("the name of an interface"));
        }
        Ok(Place { container: container.to_owned(), ifname: ifname.to_owned() })
    }

    /// Path of the network namespace.
    pub fn namespace_path(&self) -> Result<&str, Failure> {
        self.namespace.required()
    }

    /// The network namespace as it stands at its path now.
    pub fn namespace(&self) -> Result<Namespace, Failure> {
        let path = self.namespace_path()?;
        if !Path::new(path).is_absolute() {
            return Err(self.namespace.wrong("an absolute path"));
        }
        let found = fs::metadata(path).map_err(|error| {
            Failure::new(Code::Environment, format!("CNI_NETNS: {path} can't be opened")).because(&error)
        })?;
        Ok(Namespace { path: path.to_owned(), dev: found.st_dev(), ino: found.st_ino() })
    }

    /// The extra arguments.
    pub fn arguments(&self) -> Result<Arguments, Failure> {
        Arguments::parse(self.arguments.text()?)
    }

    /// Where meshd listens, if it is said here.
    pub fn socket(&self) -> Option<PathBuf> {
        Some(&self.socket.value).filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

impl Variable {
    fn text(&self) -> Result<&str, Failure> {
        self.value.to_str().ok_or_else(|| self.wrong("UTF-8 text"))
    }

    fn required(&self) -> Result<&str, Failure> {
        match self.text()? {
            "" => Err(Failure::new(Code::Environment, format!("{} missing", self.name))),
            text => Ok(text),
        }
    }

    fn wrong(&self, wanted: &str) -> Failure {
        Failure::new(Code::Environment, format!("{} is {:?}, not {wanted}", self.name, self.value))
    }
}

/// Whether a text is what CNI takes for a container or a network: alphanumeric, then also `_`, `.` and `-`.
pub fn is_identifier(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && text.bytes().all(inner)
}

fn is_interface_name(text: &str) -> bool {
    let separates = |character: char| matches!(character, '/' | ':') || character.is_whitespace();
    (1..=IFNAME_BYTES_MAX).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.chars().any(|character| separates(character) || character.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Environment {
        Environment::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn identifiers_of_every_runtime_are_taken() {
        let hex = "4f".repeat(32);
        for container in [hex.as_str(), "k8s.io-lab_1", "cnitool-77383ca0a0715733ca6f"] {
            let place = with(&[("CNI_CONTAINERID", container), ("CNI_IFNAME", "eth0")]).place();
            assert_eq!(place.map(|place| place.container), Ok(container.to_owned()));
        }
    }

    #[test]
    fn identifiers_that_could_leave_their_place_are_refused() {
        for container in ["..", "/etc", "a/b", "-a", "_a", ".a", "a b", "a\n", "ä", "a;b"] {
            let failure = with(&[("CNI_CONTAINERID", container), ("CNI_IFNAME", "eth0")]).place();
            let failure = failure.expect_err(container);
            assert_eq!(failure.code(), Code::Environment);
            assert!(failure.line().contains("CNI_CONTAINERID"), "{}", failure.line());
        }
    }

    #[test]
    fn names_that_no_interface_can_have_are_refused() {
        for ifname in [".", "..", "a/b", "a:b", "a b", "a\tb", "a\u{7f}", "sixteen-letters-"] {
            let failure = with(&[("CNI_CONTAINERID", "c"), ("CNI_IFNAME", ifname)]).place();
            let failure = failure.expect_err(ifname);
            assert!(failure.line().contains("CNI_IFNAME"), "{}", failure.line());
        }
        assert!(with(&[("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "fifteen-letters")]).place().is_ok());
    }

    #[test]
    fn all_that_is_missing_is_named() {
        let failure = with(&[]).place().expect_err("nothing is there");
        assert_eq!(failure.line(), "CNI_CONTAINERID and CNI_IFNAME missing");
    }

    #[test]
    fn a_namespace_is_told_by_what_stands_at_its_path() {
        let found = with(&[("CNI_NETNS", "/proc/self/ns/net")]).namespace().expect("one");
        let own = fs::metadata("/proc/self/ns/net").expect("one");
        assert_eq!((found.dev, found.ino), (own.st_dev(), own.st_ino()));
        assert_eq!(found.path, "/proc/self/ns/net");
        for path in ["", "proc/self/ns/net", "/nowhere/at/all"] {
            let failure = with(&[("CNI_NETNS", path)]).namespace().expect_err(path);
            assert_eq!(failure.code(), Code::Environment);
        }
    }
}
