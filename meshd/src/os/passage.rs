//! The way of endpoints' packets through the chains of others.
//!
//! A packet that any chain drops is lost, whatever ours say of it, and Docker lets the host drop whatever it forwards.
//! So, and only where a chain does not let everything pass anyway, two rules of ours stand in it. They are set by the
//! program that whoever owns the chain uses as well: rules of two kinds of iptables do not see each other.

use std::io;
use std::process::{Command, Output};

use super::link_owner::HOST_PREFIX;

/// One for each family.
const PROGRAMS: [&str; 2] = ["iptables", "ip6tables"];
/// Where Docker leaves room for rules of others: all that is forwarded passes it first.
const DOCKER_CHAIN: &str = "DOCKER-USER";
const FORWARD_CHAIN: &str = "FORWARD";
/// What a chain says of itself that lets everything pass.
const FORWARD_OPEN: &str = "-P FORWARD ACCEPT";
/// The directions of our rules.
const DIRECTIONS: [&str; 2] = ["-i", "-o"];
/// Seconds to wait for others who change rules.
const LOCK_WAIT_S: &str = "5";
/// Copies of one rule that are removed: two who add it at once leave two.
const COPIES_MAX: usize = 16;
/// What the program answers when a chain or a rule isn't there.
const NOT_THERE: i32 = 1;
/// Characters of the program's complaint that are passed on.
const COMPLAINT_LEN_MAX: usize = 300;

/// Says why the chains of others could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum PassageError {
    /// The program can't be started.
    #[error("run {program}")]
    Run {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It refused.
    #[error("{program}: {said}")]
    Refused {
        /// The program.
        program: &'static str,
        /// What it said, shortened.
        said: String,
    },
}

/// Lets endpoints' packets through the chains of others that would drop them.
pub fn open_passage() -> Result<(), PassageError> {
    for missing in missing()? {
        missing.run("-I")?;
    }
    Ok(())
}

/// Takes back [`open_passage`].
pub fn close_passage() -> Result<(), PassageError> {
    for program in PROGRAMS {
        for chain in [DOCKER_CHAIN, FORWARD_CHAIN] {
            let Some(listed) = listed(program, chain)? else { continue };
            for direction in DIRECTIONS {
                let rule = Rule { program, chain, direction };
                let copies = listed.lines().filter(|line| *line == rule.listed()).take(COPIES_MAX).count();
                for _ in 0..copies {
                    rule.run("-D")?;
                }
            }
        }
    }
    Ok(())
}

/// One line for each rule that is missing.
pub fn passage_faults() -> Result<Vec<String>, PassageError> {
    let fault = |rule: Rule| format!("missing: {} of {}", rule.listed(), rule.program);
    Ok(missing()?.into_iter().map(fault).collect())
}

/// A rule that lets pass what comes from endpoints, or what goes to them.
#[derive(Clone, Copy)]
struct Rule {
    program: &'static str,
    chain: &'static str,
    direction: &'static str,
}

impl Rule {
    /// As the program lists it.
    fn listed(&self) -> String {
        format!("-A {} {} {HOST_PREFIX}+ -j ACCEPT", self.chain, self.direction)
    }

    /// Inserts or deletes it.
    fn run(&self, action: &str) -> Result<(), PassageError> {
        let links = format!("{HOST_PREFIX}+");
        let words = [action, self.chain, self.direction, &links, "-j", "ACCEPT"];
        match answer(self.program, &words)? {
            Some(output) if !output.status.success() => Err(refused(self.program, &output)),
            _ => Ok(()),
        }
    }
}

fn missing() -> Result<Vec<Rule>, PassageError> {
    let mut missing = Vec::new();
    for program in PROGRAMS {
        let (chain, listed) = match listed(program, DOCKER_CHAIN)? {
            Some(listed) => (DOCKER_CHAIN, listed),
            None => match listed(program, FORWARD_CHAIN)? {
                Some(listed) if listed.trim() != FORWARD_OPEN => (FORWARD_CHAIN, listed),
                _ => continue,
            },
        };
        let rules = DIRECTIONS.map(|direction| Rule { program, chain, direction });
        missing.extend(rules.into_iter().filter(|rule| !listed.lines().any(|line| line == rule.listed())));
    }
    Ok(missing)
}

/// The rules of a chain; nothing if it isn't there, or the program: then nobody has made it one.
fn listed(program: &'static str, chain: &str) -> Result<Option<String>, PassageError> {
    match answer(program, &["-S", chain])? {
        Some(output) if output.status.success() => {
            Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
        }
        Some(output) if output.status.code() != Some(NOT_THERE) => Err(refused(program, &output)),
        _ => Ok(None),
    }
}

fn answer(program: &'static str, words: &[&str]) -> Result<Option<Output>, PassageError> {
    let output = Command::new(program).args(["-w", LOCK_WAIT_S]).args(words).env("LC_ALL", "C").output();
    match output {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PassageError::Run { program, source }),
    }
}

fn refused(program: &'static str, output: &Output) -> PassageError {
    let said = String::from_utf8_lossy(&output.stderr).trim().chars().take(COMPLAINT_LEN_MAX).collect();
    PassageError::Refused { program, said }
}
