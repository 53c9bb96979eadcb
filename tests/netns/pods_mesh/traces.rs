//! What endpoints leave on a host and in the mesh.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, wait};

/// Letters and digits of a link of an endpoint on its host.
const LINK: (&str, usize) = ("msh", 12);

/// Links of endpoints that are named in the host's links, routes and packet filter.
pub fn on_host(host: &Host) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in [
        &["ip", "-o", "link"][..],
        &["ip", "-o", "route", "show", "table", "all"],
        &["ip", "-o", "-6", "route", "show", "table", "all"],
        &["nft", "list", "ruleset"],
    ] {
        let listed = host.run(line)?.ok()?;
        found.extend(links(&listed).map(|link| format!("{link} in `{}`", line.join(" "))));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Waits until a host has no endpoint, and no link, route or element of one.
pub fn none_on_host(host: &Host, deadline: Duration) -> Result<()> {
    let mut left = String::new();
    let waited = wait::until(deadline, &format!("{} has nothing of an endpoint", host.name()), || {
        left = match (on_host(host), endpoints(host)) {
            (Ok(found), Ok(endpoints)) => format!("{found:?} {endpoints:?}"),
            (Err(error), _) | (_, Err(error)) => format!("{error:#}"),
        };
        left == "[] []"
    });
    waited.with_context(|| left)
}

/// Containers that a host's daemon knows.
pub fn endpoints(host: &Host) -> Result<Vec<String>> {
    let listed = host.ctl(&["endpoints"])?.ok()?;
    let listed = listed["endpoints"].as_array().context("endpoints")?;
    let containers = listed.iter().filter_map(|one| one["attachment"]["container"].as_str());
    Ok(containers.map(str::to_owned).collect())
}

/// Waits until a node knows nobody with these addresses: the claims are withdrawn, and the names with them.
pub fn no_claims(host: &Host, at: &str, addresses: &[String], deadline: Duration) -> Result<()> {
    for address in addresses {
        wait::until(deadline, &format!("{} knows no {address}", host.name()), || {
            status(host, at, &["-x", address]).is_ok_and(|status| status == "NXDOMAIN")
        })?;
    }
    Ok(())
}

/// What a node's server of names says to a question: `NOERROR`, `NXDOMAIN`.
pub fn status(host: &Host, at: &str, question: &[&str]) -> Result<String> {
    let dig = ["dig", "+time=2", "+tries=1", &format!("@{at}")].map(str::to_owned);
    let line: Vec<String> = dig.into_iter().chain(question.iter().map(|word| (*word).to_owned())).collect();
    let said = host.run(&line)?.ok()?;
    let status = said.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    let status = status.with_context(|| format!("no answer: {said}"))?.to_owned();
    ensure!(!status.is_empty(), "{said}");
    Ok(status)
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| {
        let (prefix, digits) = LINK;
        word.strip_prefix(prefix)
            .is_some_and(|rest| rest.len() == digits && rest.chars().all(|digit| digit.is_ascii_hexdigit()))
    })
}
