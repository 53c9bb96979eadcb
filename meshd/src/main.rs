//! The `meshd` program: `meshd run` and `meshd check-config`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use meshd::config::{Config, LogFormat};

/// Peer-to-peer mesh VPN daemon.
#[derive(Debug, Parser)]
#[command(name = "meshd", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes:
  0  stopped in order
  1  failed: the error says what and why
  2  called in a wrong way, or the configuration is wrong";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon until SIGTERM or SIGINT.
    Run(Settings),
    /// Read the configuration, print it with its defaults, and say what is wrong with it.
    CheckConfig(Settings),
}

/// Where settings come from; flags win over the file.
#[derive(Debug, Args)]
struct Settings {
    /// Configuration file; none is needed. Without this flag /etc/meshd/meshd.toml is read, if it exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// State directory.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Control socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Log levels, as in "info,meshd::discovery=debug".
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Read when no other file is named and this one exists.
const SYSTEM_FILE: &str = "/etc/meshd/meshd.toml";

impl Settings {
    fn file(&self) -> Option<PathBuf> {
        let system = || Some(PathBuf::from(SYSTEM_FILE)).filter(|path| path.exists());
        self.config.clone().or_else(system)
    }

    fn load(&self) -> Result<Config, meshd::config::ConfigError> {
        let text = |path: &PathBuf| toml::Value::String(path.display().to_string());
        let mut flags = toml::Table::new();
        if let Some(dir) = &self.state_dir {
            flags.insert("state_dir".into(), text(dir));
        }
        if let Some(path) = &self.socket {
            flags.insert("socket".into(), text(path));
        }
        let mut log = toml::Table::new();
        if let Some(format) = self.log_format {
            let word = match format {
                LogFormat::Human => "human",
                LogFormat::Json => "json",
            };
            log.insert("format".into(), word.into());
        }
        if let Some(level) = &self.log_level {
            log.insert("level".into(), level.as_str().into());
        }
        flags.insert("log".into(), log.into());
        Config::load(self.file().as_deref(), flags)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (Verb::Run(settings) | Verb::CheckConfig(settings)) = &cli.verb;
    let config = match settings.load() {
        Ok(config) => config,
        Err(error) => {
            complain(
                &error.into(),
                Some("`meshd check-config` without a file prints every key and its default"),
            );
            return ExitCode::from(2);
        }
    };
    let done = match &cli.verb {
        Verb::CheckConfig(_) => {
            print!("{}", config.shown);
            Ok(())
        }
        Verb::Run(_) => meshd::run(config, settings.file().as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What a caller of the control API would be told.
            let told = error.downcast_ref::<meshd_api::ApiError>();
            complain(&error, told.and_then(|told| told.hint.as_deref()));
            ExitCode::FAILURE
        }
    }
}

fn complain(error: &anyhow::Error, hint: Option<&str>) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        // A parser's message may have several lines: where, what, and what else was possible.
        let cause = cause.to_string();
        let lines: Vec<&str> = cause.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        eprintln!("cause: {}", lines.join(", "));
    }
    if let Some(cause) = error.downcast_ref::<meshd_api::ApiError>().and_then(|told| told.cause.as_ref()) {
        eprintln!("cause: {cause}");
    }
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
}
