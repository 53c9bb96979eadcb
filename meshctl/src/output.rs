//! Standard output for data, standard error for talk.

use std::io::{self, BufWriter, Write};

use meshd_api::{Answer, Body, Document, Exit};

use crate::failure::Failure;

/// Whether data is printed for people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Tables and sentences.
    Human,
    /// JSON documents.
    Json,
}

impl Form {
    /// Prints an answer: its JSON as it came, or what `human` makes of it.
    pub fn answer<T>(self, answer: &Answer<T>, human: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self {
            Self::Human => text(&human(&answer.body)),
            Self::Json => data(answer.json.trim_end()),
        }
    }

    /// Prints what meshctl itself has found out.
    pub fn own<T: Body>(self, body: T, human: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self {
            Self::Human => text(&human(&body)),
            // Written as it is made: of the audit of a large log it has more bytes than the log's tree.
            Self::Json => printed(|out| {
                serde_json::to_writer(&mut *out, &Document::new(body))?;
                out.write_all(b"\n")
            }),
        }
    }
}

/// Prints text for people on standard output, harmless to a terminal.
pub fn text(text: &str) -> Result<(), Failure> {
    data(&harmless(text))
}

/// Prints data on standard output as it is, with a line end.
pub fn data(data: &str) -> Result<(), Failure> {
    printed(|out| out.write_all(data.as_bytes()).and_then(|()| out.write_all(b"\n")))
}

/// Prints a line of many, harmless to a terminal, that somebody is to read: nobody there is a failure.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", harmless(text)).and_then(|()| out.flush()).map_err(|error| not_printed(&error))
}

fn printed(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(not_printed(&error)),
    }
}

fn not_printed(error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, "can't write to standard output").because(error)
}

/// Says something on standard error.
pub fn talk(text: &str) {
    // Nobody is left to tell when standard error fails.
    let _ = writeln!(io::stderr().lock(), "{}", harmless(text));
}

/// Replaces control characters: names and reasons may come from other hosts and must not steer a terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\u{1b}[31mb\u{9b}c\rd\ne"), "a?[31mb?c?d\ne");
    }
}
