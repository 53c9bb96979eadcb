//! Edits of honest bytes, read from arbitrary ones.

/// Edits of one input; more only make a run slower.
const EDITS_MAX: usize = 16;

/// Reads small numbers from arbitrary bytes; zeros follow their end.
#[derive(Debug)]
pub struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    /// Begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// Next two bytes as a number.
    pub fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// One of some things.
    pub fn choose<'t, T>(&mut self, things: &'t [T]) -> &'t T {
        &things[usize::from(self.byte()) % things.len()]
    }

    /// All bytes not read yet.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Changes bytes until the script or the number of edits ends: flips, cuts, inserts, repeats.
    pub fn edit(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..EDITS_MAX {
            if self.rest.is_empty() {
                return;
            }
            let what = self.byte();
            let at = self.number() % (bytes.len() + 1);
            match what % 5 {
                0 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= self.byte();
                    }
                }
                1 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = self.byte();
                    }
                }
                2 => bytes.truncate(at),
                3 => bytes.insert(at, self.byte()),
                _ => {
                    let end = bytes.len().min(at + usize::from(self.byte()));
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
    }
}
