//! Log lines on standard error, for people or for machines.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Makes a log line of what redb asserts about a damaged file: whoever opens files catches it and tells the error.
pub fn tame_redb() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match panic.location() {
        Some(at) if at.file().contains("/redb-") => tracing::error!(%at, "a store's file contradicts itself"),
        Some(_) | None => usual(panic),
    }));
}

/// Starts logging; a second call in one process changes nothing.
pub fn start(format: LogFormat, level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level)
        .map_err(|error| anyhow::anyhow!("configuration key `log.level`: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Human => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
}
