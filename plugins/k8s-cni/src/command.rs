//! The verbs, one a file.

mod add;
mod check;
mod del;
mod gc;
mod status;
mod version;

use std::process::ExitCode;

use meshd_api::Attachment;
use serde_json::{Map, Value};

use crate::configuration::{self, RUNTIME};
use crate::daemon::Daemon;
use crate::deadline::Deadline;
use crate::document::Object;
use crate::environment::{Environment, Place};
use crate::failure::{Code, Failure};
use crate::input;
use crate::talk;
use crate::verb::Verb;
use crate::version::Version;

/// A verb with all that its configuration and environment must have.
struct Request<'a> {
    environment: &'a Environment,
    root: Object<'a>,
    network: &'a str,
    version: Version,
    daemon: Daemon,
}

/// Does what the environment and standard input ask for, and answers.
pub fn run() -> ExitCode {
    let environment = Environment::read(|name| std::env::var_os(name));
    let verb = match environment.verb() {
        Ok(verb) => verb,
        Err(failure) => return refuse(&failure, Version::NEWEST),
    };
    let deadline = Deadline::after(verb.time_max());
    let input = input::read(std::io::stdin(), deadline).and_then(|bytes| configuration::parse(&bytes));
    let fields = match input {
        Ok(fields) => fields,
        // Versions are told to everybody, also to who says nothing.
        Err(_) if verb == Verb::Version => Map::new(),
        Err(failure) => return refuse(&failure, Version::NEWEST),
    };
    let root = Object::root(&fields);
    let version = configuration::version(&root).unwrap_or(Version::NEWEST);
    match perform(verb, &environment, root, deadline) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(document)) if talk::answer(&document.to_string()) => ExitCode::SUCCESS,
        Ok(Some(_)) => ExitCode::FAILURE,
        Err(failure) => refuse(&failure, version),
    }
}

fn perform(
    verb: Verb,
    environment: &Environment,
    root: Object<'_>,
    deadline: Deadline,
) -> Result<Option<Value>, Failure> {
    let request = || Request::read(verb, environment, root.clone(), deadline);
    match verb {
        Verb::Add => add::run(&request()?).map(Some),
        Verb::Del => del::run(environment, &root, deadline).map(|()| None),
        Verb::Check => check::run(&request()?).map(|()| None),
        Verb::Gc => gc::run(&request()?).map(|()| None),
        Verb::Status => status::run(&request()?).map(|()| None),
        Verb::Version => Ok(Some(version::document(&root))),
    }
}

impl<'a> Request<'a> {
    fn read(
        verb: Verb,
        environment: &'a Environment,
        root: Object<'a>,
        deadline: Deadline,
    ) -> Result<Self, Failure> {
        let network = configuration::name(&root)?;
        let version = configuration::version(&root)?;
        if version < verb.since() {
            let late = format!("CNI {} has no {}", version.text(), verb.word());
            let since = format!("it came with {}", verb.since().text());
            return Err(Failure::new(Code::Version, late).with(since));
        }
        let daemon = Daemon::new(configuration::socket(&root, environment)?, deadline)?;
        Ok(Self { environment, root, network, version, daemon })
    }

    fn attachment(&self, place: &Place) -> Attachment {
        attachment(self.network, place)
    }
}

fn attachment(network: &str, place: &Place) -> Attachment {
    Attachment {
        runtime: RUNTIME.to_owned(),
        network: network.to_owned(),
        container: place.container.clone(),
        ifname: place.ifname.clone(),
    }
}

fn refuse(failure: &Failure, version: Version) -> ExitCode {
    talk::answer(&failure.document(version).to_string());
    ExitCode::FAILURE
}
