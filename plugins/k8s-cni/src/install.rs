//! `meshd-cni install`: puts the plugin and its configuration where runtimes look for them.

mod chain;
mod conflist;
mod file;
mod options;
mod plugin;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use meshd_api::{Exit, GetReady, Ready};

use crate::daemon::Daemon;
use crate::deadline::Deadline;
use crate::failure::{Code, Failure};
use crate::talk;
use crate::verb::Verb;
use chain::Chain;
use options::{HELP, Install, Order};

/// Between two questions whether meshd is ready.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Does what the words ask for.
pub fn run(words: &[OsString]) -> ExitCode {
    let order = match Order::parse(words) {
        Ok(order) => order,
        Err(wrong) => {
            talk::aside(&format!("{wrong}; see meshd-cni --help"));
            return Exit::Usage.code().into();
        }
    };
    let done = match order {
        Order::Help => Ok(vec![HELP.to_owned()]),
        Order::Version => Ok(vec![format!("{}{}", plugin::MARK, env!("CARGO_PKG_VERSION"))]),
        Order::Install(install) => run_install(&install),
    };
    match done {
        Ok(lines) if lines.iter().all(|line| talk::answer(line)) => ExitCode::SUCCESS,
        Ok(_) => Exit::Failed.code().into(),
        Err(failure) => {
            talk::aside(&format!("error: {}", failure.line()));
            Exit::Failed.code().into()
        }
    }
}

/// The plugin first: a runtime that sees the configuration runs the plugin at once.
fn run_install(install: &Install) -> Result<Vec<String>, Failure> {
    let own = conflist::own_part(install)?;
    let mut installed: Vec<PathBuf> = Vec::new();
    if let Some(dir) = &install.bin_dir {
        installed.push(plugin::install(dir)?);
    }
    if let Some(dir) = &install.conf_dir {
        let chain = install.bin_dir.as_deref().map_or_else(|| Ok(Chain::usual()), Chain::in_dir)?;
        for remark in &chain.remarks {
            talk::aside(remark);
        }
        let text = conflist::text(&install.name, own, &chain);
        wait_until_ready(install)?;
        installed.push(conflist::install(dir, &install.file, &install.name, &text)?);
        for earlier in conflist::earlier(dir, &install.file) {
            talk::aside(&format!("{earlier} comes before {}: runtimes use it instead", install.file));
        }
    }
    Ok(installed.iter().map(|path| path.display().to_string()).collect())
}

/// A configuration makes the host ready for pods, so it must not be there before pods can be attached.
fn wait_until_ready(install: &Install) -> Result<(), Failure> {
    let end = Deadline::after(install.wait);
    loop {
        let ask = Deadline::after(Verb::Status.time_max());
        let failure = match Daemon::new(install.socket.clone(), ask)?.call(&GetReady {}) {
            Ok(Ready { can_attach: true, is_connected: _, detail: _ }) => return Ok(()),
            Ok(Ready { can_attach: false, is_connected: _, detail }) => {
                let failure = Failure::new(Code::NotAvailable, "meshd can't attach containers yet");
                detail.into_iter().fold(failure, Failure::with)
            }
            Err(failure) => failure,
        };
        if end.left().is_zero() {
            return Err(failure.with("no configuration was written"));
        }
        sleep(ASK_EVERY.min(end.left()));
    }
}
