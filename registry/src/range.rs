//! Ranges of keys as etcd writes them.

/// Upper end of a [`KeyRange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeEnd {
    /// Only the start key itself.
    Single,
    /// Every key from the start up to, without, this one.
    Before(Vec<u8>),
    /// Every key from the start on.
    Open,
}

/// A contiguous set of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Vec<u8>,
    end: RangeEnd,
}

impl KeyRange {
    /// Exactly one key.
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self { start: key.into(), end: RangeEnd::Single }
    }

    /// Every key that begins with `prefix`; an empty prefix means all keys.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let start = prefix.into();
        let mut end = start.clone();
        // The successor of a prefix: drop trailing 0xff bytes, then add one to the last.
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                return Self { start, end: RangeEnd::Before(end) };
            }
        }
        Self { start, end: RangeEnd::Open }
    }

    /// Reads the two byte strings of the wire: no end is one key, an end of one zero byte is open.
    pub fn from_wire(key: Vec<u8>, range_end: Vec<u8>) -> Self {
        let end = match range_end.as_slice() {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Open,
            _ => RangeEnd::Before(range_end),
        };
        // A lone zero byte as start is how the wire writes "from the first key".
        let start = if key == [0] && end != RangeEnd::Single { Vec::new() } else { key };
        Self { start, end }
    }

    /// Writes the two byte strings of the wire.
    pub fn to_wire(&self) -> (Vec<u8>, Vec<u8>) {
        let range_end = match &self.end {
            RangeEnd::Single => Vec::new(),
            RangeEnd::Before(end) => end.clone(),
            RangeEnd::Open => vec![0],
        };
        let start =
            if self.start.is_empty() && self.end != RangeEnd::Single { vec![0] } else { self.start.clone() };
        (start, range_end)
    }

    /// First key that may be inside.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// Its upper end.
    pub fn end(&self) -> &RangeEnd {
        &self.end
    }

    /// The same range without the keys up to and including `key`.
    #[must_use]
    pub fn after(&self, key: &[u8]) -> Self {
        let mut start = key.to_vec();
        start.push(0);
        Self { start, end: self.end.clone() }
    }

    /// Whether `key` is inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => key >= self.start.as_slice() && key < end.as_slice(),
            RangeEnd::Open => key >= self.start.as_slice(),
        }
    }

    /// Whether every key of this range begins with `prefix`.
    pub fn lies_within_prefix(&self, prefix: &[u8]) -> bool {
        if !self.start.starts_with(prefix) {
            return false;
        }
        match (&self.end, Self::prefix(prefix).end) {
            (RangeEnd::Single, _) | (_, RangeEnd::Open) => true,
            (RangeEnd::Before(end), RangeEnd::Before(limit)) => *end <= limit,
            (RangeEnd::Open, RangeEnd::Before(_)) | (_, RangeEnd::Single) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyRange, RangeEnd};

    #[test]
    fn a_prefix_covers_its_keys_and_no_neighbour() {
        let range = KeyRange::prefix("/a/");
        assert!(range.contains(b"/a/") && range.contains(b"/a/\xff\xff"));
        assert!(!range.contains(b"/a") && !range.contains(b"/b"));
    }

    #[test]
    fn a_prefix_of_high_bytes_is_open() {
        assert_eq!(KeyRange::prefix([0xff, 0xff]).end(), &RangeEnd::Open);
        assert_eq!(KeyRange::prefix([1, 0xff]).end(), &RangeEnd::Before(vec![2]));
    }

    #[test]
    fn the_wire_form_survives_a_round() {
        for range in
            [KeyRange::key("k"), KeyRange::prefix("/a/"), KeyRange::prefix(""), KeyRange::prefix([0xff])]
        {
            let (key, end) = range.to_wire();
            assert_eq!(KeyRange::from_wire(key, end), range);
        }
    }

    #[test]
    fn only_whole_ranges_lie_within_a_prefix() {
        assert!(KeyRange::prefix("/a/b").lies_within_prefix(b"/a/"));
        assert!(KeyRange::key("/a/b").lies_within_prefix(b"/a/"));
        assert!(!KeyRange::from_wire(b"/a/b".to_vec(), vec![0]).lies_within_prefix(b"/a/"));
        assert!(!KeyRange::from_wire(b"/a/b".to_vec(), b"/c".to_vec()).lies_within_prefix(b"/a/"));
        assert!(!KeyRange::prefix("/").lies_within_prefix(b"/a/"));
        assert!(KeyRange::from_wire(b"x".to_vec(), vec![0]).lies_within_prefix(b""));
    }
}
