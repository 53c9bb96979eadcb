//! `meshctl admit`.

use std::path::PathBuf;

use clap::Args;
use data_encoding::BASE64;
use meshd_api::{AdmitRequest, Signed};

use super::{Daemon, join};
use crate::armour::{self, Content};
use crate::failure::Failure;
use crate::file::{self, Readers};
use crate::name::Label;
use crate::output::{self, Form};

/// Admit a host whose request came as a file (on a steward).
#[derive(Debug, Args)]
pub struct Admit {
    /// Request file from `meshctl join --request`, `-` for standard input.
    file: PathBuf,
    /// Write the answer to a file instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Label the newcomer gets; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
}

impl Admit {
    /// Has the request answered and hands out the answer.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let bytes = join::read(&self.file, Content::JoinRequest)?;
        let request = AdmitRequest {
            request: Signed(BASE64.encode(&bytes)),
            labels: self.labels.into_iter().map(|Label { key, value }| (key, value)).collect(),
        };
        let answer = daemon.client.call(&request).await?;
        let text = armour::write(Content::Admission, &super::unbase64(&answer.body.response)?);
        let admitted =
            format!("admitted {} as {}, {}", answer.body.name, answer.body.addr4, answer.body.addr6);
        match &self.out {
            Some(path) => {
                file::write_over(path, text.as_bytes(), Readers::All)?;
                daemon.form.answer(&answer, |_| admitted)?;
            }
            None => {
                daemon.form.answer(&answer, |_| text.trim_end().to_owned())?;
                if daemon.form == Form::Human {
                    output::talk(&admitted);
                }
            }
        }
        if daemon.form == Form::Human {
            output::talk("on the new host: meshctl join --import FILE");
        }
        Ok(())
    }
}
