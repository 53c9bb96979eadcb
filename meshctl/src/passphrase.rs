//! Passphrases come from a file or from the terminal, never from the command line, where others can see them.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;

use meshd_api::Exit;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use zeroize::{Zeroize, Zeroizing};

use crate::failure::Failure;

/// Longest passphrase; longer is a wrong file.
const PASSPHRASE_BYTES_MAX: u64 = 4096;

/// Reads the first line of a file as a passphrase.
pub fn from_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::new(Exit::Usage, format!("can't read the passphrase file {}", path.display())).because(error)
    };
    let file = File::open(path).map_err(|error| failed(&error))?;
    let mut line = Zeroizing::new(Vec::new());
    let mut reader = BufReader::new(file.take(PASSPHRASE_BYTES_MAX));
    reader.read_until(b'\n', &mut line).map_err(|error| failed(&error))?;
    checked(line, &format!("the passphrase file {} starts with an empty line", path.display()))
}

/// Asks at the terminal, without showing what is typed.
pub fn ask(question: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Usage, "can't ask for a passphrase")
            .because(error)
            .with_hint("give it in a file with --passphrase-file")
    };
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(|error| failed(&error))?;
    if !terminal.is_terminal() {
        return Err(Failure::new(Exit::Usage, "there is no terminal to ask for a passphrase"));
    }
    (&terminal).write_all(format!("{question}: ").as_bytes()).map_err(|error| failed(&error))?;
    let hidden = Hidden::start(&terminal).map_err(|error| failed(&error))?;
    let mut line = Zeroizing::new(Vec::new());
    let read = BufReader::new((&terminal).take(PASSPHRASE_BYTES_MAX)).read_until(b'\n', &mut line);
    drop(hidden);
    // The line end that was typed was not shown either.
    let _ = (&terminal).write_all(b"\n");
    read.map_err(|error| failed(&error))?;
    checked(line, "the passphrase is empty")
}

/// Asks twice, so that a slip does not lock the key for ever.
pub fn ask_new() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let first = ask("New passphrase")?;
    let again = ask("Once more")?;
    if first == again { Ok(first) } else { Err(Failure::new(Exit::Usage, "the two passphrases differ")) }
}

fn checked(mut line: Zeroizing<Vec<u8>>, empty: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    while line.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        line.pop();
    }
    if line.is_empty() {
        line.zeroize();
        return Err(Failure::new(Exit::Usage, empty));
    }
    Ok(line)
}

/// A terminal that does not show what is typed, until dropped.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn start(terminal: &'a File) -> Result<Self, rustix::io::Errno> {
        let before = termios::tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that is gone has nothing to restore.
        let _ = termios::tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::from_file;

    #[test]
    fn the_first_line_of_a_file_is_the_passphrase() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("passphrase");
        std::fs::write(&path, "correct horse \r\nsecond\n").expect("a file");
        assert_eq!(from_file(&path).expect("a passphrase").as_slice(), b"correct horse ");
        std::fs::write(&path, "\n").expect("a file");
        assert!(from_file(&path).is_err());
    }
}
