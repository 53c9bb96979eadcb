//! Public records as text files: a line that says what it is, base64, a line that ends it.
//!
//! A file may hold several blocks, and any text around them for people.

use data_encoding::BASE64;

/// Blocks in one file at most: a genesis and the roots of its founders fit several times.
const BLOCKS_MAX: usize = 256;

/// Characters of base64 in a line.
const LINE_LEN: usize = 64;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Envelope of an organisation's root.
    OrgRoot,
    /// Envelope of a genesis.
    Genesis,
    /// Envelope of a join request.
    JoinRequest,
    /// A steward's answer to one.
    Admission,
}

impl Content {
    const ALL: [Self; 4] = [Self::OrgRoot, Self::Genesis, Self::JoinRequest, Self::Admission];

    const fn label(self) -> &'static str {
        match self {
            Self::OrgRoot => "MESHD ORGANISATION ROOT",
            Self::Genesis => "MESHD GENESIS",
            Self::JoinRequest => "MESHD JOIN REQUEST",
            Self::Admission => "MESHD ADMISSION",
        }
    }
}

/// Bytes with what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What they are.
    pub content: Content,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Reports a text that is not such a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmourError {
    /// A begin line that names nothing known.
    #[error("line {line} begins something this version does not know")]
    Unknown {
        /// Where.
        line: usize,
    },
    /// The text ends within a block, or another begins.
    #[error("the block that begins at line {line} does not end: the file is cut off")]
    Open {
        /// Where it begins.
        line: usize,
    },
    /// Something other than base64 within a block.
    #[error("the block that begins at line {line} is damaged")]
    Base64 {
        /// Where it begins.
        line: usize,
    },
    /// More blocks than any file needs.
    #[error("more than {BLOCKS_MAX} blocks")]
    TooMany,
    /// No block, or not the one wanted.
    #[error("there is no \"{}\" in it", wanted.label())]
    Missing {
        /// What was wanted.
        wanted: Content,
    },
}

/// Writes a block as text, line end included.
pub fn write(content: Content, bytes: &[u8]) -> String {
    let label = content.label();
    let base64 = BASE64.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE_LEN));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Reads every block of a text.
pub fn read(text: &str) -> Result<Vec<Block>, ArmourError> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, Content, String)> = None;
    for (line, text) in (1..).zip(text.lines().map(str::trim)) {
        open = match open {
            None => match text.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) {
                None => None,
                Some(label) => {
                    let content = Content::ALL.into_iter().find(|content| content.label() == label);
                    Some((line, content.ok_or(ArmourError::Unknown { line })?, String::new()))
                }
            },
            Some((begin, content, base64)) if text == format!("-----END {}-----", content.label()) => {
                let bytes =
                    BASE64.decode(base64.as_bytes()).map_err(|_| ArmourError::Base64 { line: begin })?;
                if blocks.len() == BLOCKS_MAX {
                    return Err(ArmourError::TooMany);
                }
                blocks.push(Block { content, bytes });
                None
            }
            Some((begin, _, _)) if text.starts_with("-----") => {
                return Err(ArmourError::Open { line: begin });
            }
            Some((begin, content, mut base64)) => {
                base64.push_str(text);
                Some((begin, content, base64))
            }
        };
    }
    match open {
        None => Ok(blocks),
        Some((line, _, _)) => Err(ArmourError::Open { line }),
    }
}

/// Reads the first block of the content wanted.
pub fn read_one(text: &str, wanted: Content) -> Result<Vec<u8>, ArmourError> {
    let found = read(text)?.into_iter().find(|block| block.content == wanted);
    found.map(|block| block.bytes).ok_or(ArmourError::Missing { wanted })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_around_blocks_is_for_people() {
        let file = format!(
            "mesh lab\n\n{}\nsome words\n{}",
            write(Content::Genesis, &[7; 100]),
            write(Content::OrgRoot, b"")
        );
        let blocks = read(&file).expect("a readable file");
        assert_eq!(
            blocks,
            [
                Block { content: Content::Genesis, bytes: vec![7; 100] },
                Block { content: Content::OrgRoot, bytes: Vec::new() }
            ]
        );
    }

    #[test]
    fn a_cut_or_damaged_file_is_told_apart() {
        let whole = write(Content::JoinRequest, &[1; 90]);
        let cut: String = whole.lines().take(2).collect::<Vec<_>>().join("\n");
        assert_eq!(read(&cut), Err(ArmourError::Open { line: 1 }));
        assert_eq!(read(&whole.replacen('A', "*", 1)), Err(ArmourError::Base64 { line: 1 }));
        assert_eq!(read(&whole.replace("JOIN", "OTHER")), Err(ArmourError::Unknown { line: 1 }));
        assert_eq!(
            read_one(&whole, Content::Admission),
            Err(ArmourError::Missing { wanted: Content::Admission })
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let text = write(Content::Admission, &bytes);
            prop_assert_eq!(read_one(&text, Content::Admission), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(-----(BEGIN|END) MESHD (GENESIS|ADMISSION)-----|[A-Za-z=+/]{0,9}|\n|\\PC){0,40}") {
            let _ = read(&text);
        }
    }
}
