//! Documents taken apart: fenced blocks, prose, links and headings.

/// A document.
pub struct Document {
    /// Path in the repository.
    pub name: String,
    /// All of it.
    pub text: String,
    /// Its fenced blocks, in order.
    pub blocks: Vec<Block>,
    /// What stands outside of them.
    pub prose: String,
}

/// A fenced block.
pub struct Block {
    /// Word after the fence.
    pub language: String,
    /// What stands in it.
    pub text: String,
    /// Line number of its first line.
    pub line: usize,
}

/// A command for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Name of the host.
    pub host: String,
    /// The command.
    pub command: String,
    /// Exit code it must end with.
    pub code: i32,
}

impl Document {
    pub fn parse(name: String, text: String) -> Self {
        let (mut blocks, mut prose) = (Vec::new(), String::new());
        let mut open: Option<Block> = None;
        for (number, line) in (1..).zip(text.lines()) {
            open = match (open, line.strip_prefix("```")) {
                (None, Some(language)) => Some(Block {
                    language: language.trim().to_owned(),
                    text: String::new(),
                    line: number + 1,
                }),
                (None, None) => {
                    prose.push_str(line);
                    prose.push('\n');
                    None
                }
                (Some(block), Some(_)) => {
                    blocks.push(block);
                    None
                }
                (Some(mut block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    Some(block)
                }
            };
        }
        assert!(open.is_none(), "{name}: a block does not end");
        Self { name, text, blocks, prose }
    }

    /// Targets of its links.
    pub fn links(&self) -> Vec<String> {
        let ends = self.prose.split("](").skip(1);
        ends.filter_map(|rest| rest.split_once(')')).map(|(link, _)| link.to_owned()).collect()
    }
}

impl Block {
    /// Commands for hosts, with their line numbers.
    pub fn host_lines(&self) -> Vec<(Line, usize)> {
        let numbered = (self.line..).zip(self.text.lines());
        numbered.filter_map(|(number, line)| host_line(line).map(|line| (line, number))).collect()
    }

    /// Words after `cargo lab` of each line; every line of a console block has a prompt.
    pub fn lab_lines(&self) -> Vec<Vec<String>> {
        if self.language != "console" {
            return Vec::new();
        }
        let others = self.text.lines().filter(|line| host_line(line).is_none());
        others
            .map(|line| match line.strip_prefix("$ cargo lab ") {
                Some(words) => words.split_whitespace().map(str::to_owned).collect(),
                None => panic!("line {}: {line:?} has no prompt that is known", self.line),
            })
            .collect()
    }
}

/// Takes `a# COMMAND [# exits N]` apart.
fn host_line(line: &str) -> Option<Line> {
    let (host, command) = line.split_once("# ")?;
    if !["a", "b", "c"].contains(&host) {
        return None;
    }
    let (command, code) = match command.split_once(" # exits ") {
        Some((command, code)) => (command, code.trim().parse().ok()?),
        None => (command, 0),
    };
    Some(Line { host: host.to_owned(), command: command.trim().to_owned(), code })
}

/// Anchors of a document's headings, as GitHub makes them.
pub fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title
            .chars()
            .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
            .map(|letter| if letter == ' ' { '-' } else { letter })
            .collect()
    })
}
