//! `meshctl config`.

use clap::Subcommand;
use meshd_api::{ConfigReply, GetConfig};
use serde_json::{Map, Value};

use super::Daemon;
use crate::failure::Failure;

/// Show the settings of the daemon.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print the settings in force, defaults included, in the shape of the configuration file.
    Show,
}

impl Config {
    /// Asks and prints.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        match self {
            Self::Show => {
                let answer = daemon.client.call(&GetConfig {}).await?;
                daemon.form.answer(&answer, human)
            }
        }
    }
}

fn human(reply: &ConfigReply) -> String {
    let mut lines = vec![match &reply.file {
        Some(file) => format!("# from {file}"),
        None => "# defaults; no configuration file".to_owned(),
    }];
    table(&mut lines, "", &reply.config);
    lines.join("\n")
}

/// Writes a table as TOML: its own settings first, then the tables in it. JSON text is at most
/// `serde_json`'s depth limit deep, and so is this.
fn table(lines: &mut Vec<String>, path: &str, table: &Map<String, Value>) {
    for (key, value) in table {
        match value {
            Value::Object(_) => {}
            Value::Null => lines.push(format!("# {key} is not set")),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                lines.push(format!("{key} = {value}"));
            }
        }
    }
    for (key, value) in table {
        if let Value::Object(inner) = value {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            lines.push(format!("\n[{path}]"));
            self::table(lines, &path, inner);
        }
    }
}
