//! The manual page against the program.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_manual_has_every_option_and_every_variable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("meshd-k8s.8");
    let manual = fs::read_to_string(path).expect("the manual").replace("\\-", "-");
    for verb in ["run", "rules", "ready"] {
        let help =
            Command::new(env!("CARGO_BIN_EXE_meshd-k8s")).args([verb, "--help"]).output().expect("it runs");
        let help = String::from_utf8(help.stdout).expect("text");
        let words = help.split(|letter: char| letter.is_whitespace() || "[],=`".contains(letter));
        let names: Vec<&str> = words
            .filter(|word| {
                word.starts_with("--") && word.len() > 2
                    || word.starts_with("MESHD_")
                    || word.ends_with("CONFIG")
            })
            .filter(|word| *word != "--help")
            .collect();
        assert!(names.len() >= 2, "{help}");
        for name in names {
            assert!(manual.contains(name), "{name}");
        }
    }
}
