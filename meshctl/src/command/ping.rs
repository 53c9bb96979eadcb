//! `meshctl ping`.

use std::time::Duration;

use clap::Args;
use meshd_api::{ClientError, ErrorCode, Exit, PingReply, PingRequest};

use super::Daemon;
use crate::failure::Failure;
use crate::output;

/// Measure round trips through the tunnel to a node.
#[derive(Debug, Args)]
pub struct Ping {
    /// Name, node id or overlay address.
    node: String,
    /// How many round trips.
    #[arg(short, long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Milliseconds between two.
    #[arg(short, long, default_value_t = 1000, value_name = "MS")]
    interval: u64,
    /// Bytes of payload.
    #[arg(short, long, default_value_t = 56, value_name = "BYTES")]
    size: u16,
}

impl Ping {
    /// Sends one after the other; fails when none was answered.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let request = PingRequest { target: self.node.clone(), payload_len: self.size };
        let mut tally = Tally::default();
        let mut ticks = tokio::time::interval(Duration::from_millis(self.interval.max(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for _ in 0..self.count {
            ticks.tick().await;
            tally.sent += 1;
            match daemon.client.call(&request).await {
                Ok(answer) => {
                    tally.answered(answer.body.rtt_us);
                    daemon.form.answer(&answer, line)?;
                }
                Err(ClientError::Api(error)) if error.code == ErrorCode::TimedOut => {
                    output::talk(&format!("no answer from {}", self.node));
                }
                Err(error) => return Err(error.into()),
            }
        }
        if daemon.form == output::Form::Human {
            output::text(&tally.to_text())?;
        }
        if tally.received == 0 {
            return Err(Failure::new(Exit::TimedOut, format!("no answer from {}", self.node))
                .with_hint("`meshctl peers` shows the state of its tunnel"));
        }
        Ok(())
    }
}

fn line(reply: &PingReply) -> String {
    format!("reply from {} ({}) via {} time={} ms", reply.name, reply.address, reply.path, ms(reply.rtt_us))
}

fn ms(us: u64) -> String {
    let hundredths = us.saturating_add(5) / 10;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// What came back of what was sent.
#[derive(Debug, Default)]
struct Tally {
    sent: u32,
    received: u32,
    sum_us: u64,
    min_us: u64,
    max_us: u64,
}

impl Tally {
    fn answered(&mut self, rtt_us: u64) {
        self.min_us = if self.received == 0 { rtt_us } else { self.min_us.min(rtt_us) };
        self.max_us = self.max_us.max(rtt_us);
        self.sum_us = self.sum_us.saturating_add(rtt_us);
        self.received += 1;
    }

    fn to_text(&self) -> String {
        let lost = self.sent.saturating_sub(self.received);
        let percent = u64::from(lost) * 100 / u64::from(self.sent.max(1));
        let mut text = format!("{} sent, {} received, {percent} % lost", self.sent, self.received);
        if self.received > 0 {
            let mean = self.sum_us / u64::from(self.received);
            text.push_str(&format!(
                ", round trip min/avg/max {}/{}/{} ms",
                ms(self.min_us),
                ms(mean),
                ms(self.max_us)
            ));
        }
        text
    }
}
