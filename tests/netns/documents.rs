//! The documents: what they tell a reader to type is typed here, on real hosts, from top to bottom.
//!
//! A fenced `console` block holds commands after a prompt: `a#`, `b#` and `c#` are root shells on the hosts of one lab a
//! document, `$ cargo lab …` is a verb of the lab. Words in capitals stand for what a command before has printed.
//! A comment `# exits N` says which exit code is right. A fenced `sh` block is only checked for its syntax.

#[path = "documents/blocks.rs"]
mod blocks;
#[path = "documents/named.rs"]
mod named;
#[path = "documents/reader.rs"]
mod reader;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Docker, IMAGE, Podman, program, repository, story};

use blocks::{Block, Document, Line};
use named::Row;
use reader::Reader;

/// Deadline of a program that only reads its arguments or a script.
const CHECK_DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn the_readme_does_what_it_says() {
    typed("README.md");
}

#[test]
fn joining_does_what_it_says() {
    typed("docs/joining.md");
}

#[test]
fn operating_does_what_it_says() {
    typed("docs/operating.md");
}

#[test]
fn rotation_does_what_it_says() {
    typed("docs/rotation.md");
}

#[test]
fn names_does_what_it_says() {
    typed("docs/names.md");
}

#[test]
fn endpoints_do_what_it_says() {
    let document = document("docs/endpoints.md");
    // Machines keep the names of their namespaces to themselves.
    story("documents-endpoints", |lab| {
        let hosts = lab.machines(["a", "b"])?;
        let podman = Podman::new(&hosts[0])?;
        // Nothing can be fetched here, so the image of the lab has the name that readers know.
        podman.ok(&["tag", IMAGE, "busybox"])?;
        hosts[0].plugin_socket_as_installed()?;
        read_aloud(&document, Reader::on_machines(&hosts)?)
    });
}

#[test]
fn external_does_what_it_says() {
    typed("docs/external.md");
}

#[test]
fn kubernetes_does_what_it_says() {
    typed("docs/kubernetes.md");
}

#[test]
fn commands_on_hosts_stand_in_documents_that_are_typed() {
    for document in documents() {
        let is_typed = [
            "README.md",
            "docs/docker.md",
            "docs/endpoints.md",
            "docs/external.md",
            "docs/joining.md",
            "docs/kubernetes.md",
            "docs/names.md",
            "docs/operating.md",
            "docs/rotation.md",
        ]
        .contains(&document.name.as_str());
        assert!(is_typed || document.host_commands().next().is_none(), "{}", document.name);
    }
}

#[test]
fn commands_of_the_lab_are_verbs_it_knows() {
    for document in documents() {
        for words in document.blocks.iter().flat_map(Block::lab_lines) {
            knows(&words).unwrap_or_else(|error| panic!("{}: {error:#}", document.name));
        }
    }
}

#[test]
fn shell_scripts_have_no_errors_of_syntax() {
    for document in documents() {
        for block in document.blocks.iter().filter(|block| block.language == "sh") {
            let line = ["sh", "-n", "-c", &block.text];
            let output = mesh_lab::process::run(&line, None, CHECK_DEADLINE).expect("sh starts");
            assert_eq!(output.code, 0, "{}, line {}: {}", document.name, block.line, output.stderr);
        }
    }
}

#[test]
fn commands_stand_in_blocks_that_are_checked() {
    for document in documents() {
        for block in &document.blocks {
            let is_known =
                ["console", "sh", "text", "toml", "yaml", "rust"].contains(&block.language.as_str());
            assert!(is_known, "{}, line {}: a block of {:?}", document.name, block.line, block.language);
            let is_checked = ["console", "sh"].contains(&block.language.as_str());
            let command = block.text.lines().find(|line| looks_like_a_command(line));
            assert!(is_checked || command.is_none(), "{}, line {}: {command:?}", document.name, block.line);
        }
        let loose = document.prose.lines().find(|line| looks_like_a_command(line));
        assert!(loose.is_none(), "{}: {loose:?} stands outside of a block", document.name);
    }
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut broken = Vec::new();
    for document in documents() {
        for link in document.links() {
            if !leads_somewhere(&document, &link) {
                broken.push(format!("{}: {link}", document.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_listed_bug_and_mistake_has_its_tests() {
    let root = repository().expect("the repository");
    let text = fs::read_to_string(root.join("docs/testing.md")).expect("the document");
    let (rows, tests) = (named::rows(&text), named::tests_below(&root));
    for row in &rows {
        let missing: Vec<&String> = row.tests.iter().filter(|name| !tests.contains(*name)).collect();
        assert!(!row.tests.is_empty() && missing.is_empty(), "{} {}: {missing:?}", row.kind, row.subject);
    }
    for (kind, count) in [("bug", 22), ("mistake", 19)] {
        let numbered: Vec<(String, &Row)> =
            rows.iter().filter(|row| row.kind == kind).filter_map(|row| Some((row.prefix()?, row))).collect();
        let expected: Vec<String> = (1..=count).map(|number| format!("{kind}{number:02}_")).collect();
        assert!(numbered.iter().map(|(prefix, _)| prefix).eq(&expected), "{kind}s are listed in their order");
        let own = |name: &&String| {
            name.strip_prefix(kind)
                .is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
        };
        for name in tests.iter().filter(own) {
            let row = numbered.iter().find(|(prefix, _)| name.starts_with(prefix.as_str()));
            assert!(row.is_some_and(|(_, row)| row.tests.contains(name)), "{name} is not in its row");
        }
    }
}

#[test]
fn no_document_names_paths_of_the_machine_it_was_written_on() {
    let here = repository().expect("the repository");
    let here = here.to_str().expect("a path of text");
    for document in documents() {
        for path in [here, "/home/", "/root/.", "/tmp/"] {
            assert!(!document.text.contains(path), "{} names {path}", document.name);
        }
    }
}

#[test]
fn docker_does_what_it_says() {
    let document = document("docs/docker.md");
    story("documents-docker", |lab| {
        let hosts = lab.machines(["a", "b"])?;
        let mut stations = Vec::new();
        for host in &hosts {
            let plugin = host.docker_plugin()?;
            let docker = Docker::start(host)?;
            // Nothing can be fetched here, so the image of the lab has the name that readers know.
            docker.ok(&["tag", IMAGE, "busybox"])?;
            stations.push((docker, plugin));
        }
        read_aloud(&document, Reader::on_machines(&hosts)?)
    });
}

/// Types a document's commands on three hosts.
fn typed(name: &str) {
    let document = document(name);
    story("documents", |lab| {
        let hosts = lab.hosts(["a", "b", "c"])?;
        read_aloud(&document, Reader::new(lab, &hosts)?)
    });
}

fn read_aloud(document: &Document, mut reader: Reader<'_>) -> Result<()> {
    for (line, number) in document.host_commands() {
        reader.types(&line).with_context(|| format!("{}, line {number}", document.name))?;
    }
    Ok(())
}

fn document(name: &str) -> Document {
    documents().into_iter().find(|document| document.name == name).expect("the document")
}

/// README.md, CONTRIBUTING.md and everything right below docs.
fn documents() -> Vec<Document> {
    let root = repository().expect("the repository");
    let mut paths = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    for entry in fs::read_dir(root.join("docs")).expect("docs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| read(&root, path)).collect()
}

fn read(root: &Path, path: &Path) -> Document {
    let text = fs::read_to_string(path).expect("a document");
    let name = path.strip_prefix(root).expect("inside the repository").display().to_string();
    Document::parse(name, text)
}

/// Asks the lab for the help of a verb, and finds every option there.
fn knows(words: &[String]) -> Result<()> {
    let (verb, rest) = words.split_first().context("a lab line without a verb")?;
    let mut command = Command::new(program("lab")?);
    command.args([verb, "--help"]);
    let help = mesh_lab::process::run_command(command, None, CHECK_DEADLINE)?.ok()?;
    for option in rest.iter().filter(|word| word.starts_with("--")) {
        ensure!(help.contains(option.as_str()), "`cargo lab {verb}` has no option {option}");
    }
    let takes_words = help.lines().any(|line| line.starts_with("Usage:") && line.contains('['))
        && help.contains("Arguments:");
    let has_word = rest.first().is_some_and(|word| !word.starts_with("--"));
    ensure!(takes_words || !has_word, "`cargo lab {verb}` takes no argument");
    Ok(())
}

fn looks_like_a_command(line: &str) -> bool {
    let line = line.trim_start();
    ["$ ", "a# ", "b# ", "c# ", "cargo ", "meshctl ", "meshd run", "systemctl "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// Whether a relative link points to a file, and its fragment to a heading there.
fn leads_somewhere(document: &Document, link: &str) -> bool {
    if link.contains("://") || link.starts_with("mailto:") {
        return true;
    }
    let root = repository().expect("the repository");
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let own = root.join(&document.name);
    let target: PathBuf = match (file, own.parent()) {
        ("", _) | (_, None) => own,
        (file, Some(dir)) => dir.join(file),
    };
    if heading.is_empty() {
        return target.exists();
    }
    fs::read_to_string(&target).is_ok_and(|text| blocks::headings(&text).any(|anchor| anchor == heading))
}

impl Document {
    /// What is typed on hosts, with line numbers.
    fn host_commands(&self) -> impl Iterator<Item = (Line, usize)> {
        self.blocks.iter().filter(|block| block.language == "console").flat_map(Block::host_lines)
    }
}
