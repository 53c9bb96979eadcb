//! What ping says when it ends.

use std::fs;

use anyhow::{Context, Result};

use crate::Host;

/// Echo requests of a host's ping, and how many were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoCount {
    /// Requests.
    pub sent: u64,
    /// Answers.
    pub received: u64,
}

impl EchoCount {
    /// Reads what the ping on a host said last.
    pub fn read(host: &Host) -> Result<Self> {
        let said = fs::read_to_string(host.log("ping")).context("read what ping said")?;
        Self::parse(&said).with_context(|| format!("no summary in: {said}"))
    }

    fn parse(said: &str) -> Option<Self> {
        let summary = said.lines().rfind(|line| line.contains("packets transmitted"))?;
        let mut counts = summary.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok());
        Some(Self { sent: counts.next()?, received: counts.next()? })
    }

    /// Whether all were answered, but for the one that may have been under way when ping was told to stop.
    pub fn lost_none(&self) -> bool {
        self.received + 1 >= self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_may_be_without_an_answer() {
        let said = |received: u64| {
            EchoCount::parse(&format!(
                "--- 10.91.0.1 ping statistics ---\n\
                 500 packets transmitted, {received} received, 0.2% packet loss, time 4990ms\n"
            ))
        };
        assert_eq!(said(499), Some(EchoCount { sent: 500, received: 499 }));
        assert!(said(500).expect("a summary").lost_none() && said(499).expect("a summary").lost_none());
        assert!(!said(498).expect("a summary").lost_none());
        assert_eq!(EchoCount::parse("PING 10.91.0.1 56(84) bytes of data.\n"), None);
    }
}
