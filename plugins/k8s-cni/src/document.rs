//! JSON objects as programs written in Go read them: the case of a key does not matter, null is the same as nothing.

use serde_json::{Map, Value};

use crate::failure::{Code, Failure};

/// An object inside the configuration, and the path to it for messages.
#[derive(Debug, Clone)]
pub struct Object<'a> {
    path: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// The outermost object.
    pub fn root(fields: &'a Map<String, Value>) -> Self {
        Self { path: String::new(), fields }
    }

    /// Keys and values as they are written.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.fields.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A value; the exact key comes before one of another case.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        let exact = self.fields.get(key);
        let value = exact.or_else(|| {
            self.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
        });
        value.filter(|value| !value.is_null())
    }

    /// Whether a key is there, even with null.
    pub fn has(&self, key: &str) -> bool {
        self.fields.keys().any(|name| name.eq_ignore_ascii_case(key))
    }

    /// A text; an empty one is the same as none, as in Go.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        let text = self.typed(key, "a text", Value::as_str)?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// A text that must be there.
    pub fn required(&self, key: &str) -> Result<&'a str, Failure> {
        let missing = || Failure::new(Code::Configuration, format!("{} is missing", self.at(key)));
        self.text(key)?.ok_or_else(missing)
    }

    /// An object.
    pub fn object(&self, key: &str) -> Result<Option<Object<'a>>, Failure> {
        let fields = self.typed(key, "an object", Value::as_object)?;
        Ok(fields.map(|fields| Object { path: self.at(key), fields }))
    }

    /// A list.
    pub fn list(&self, key: &str) -> Result<Option<&'a [Value]>, Failure> {
        self.typed(key, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// A list of texts; none if it is absent.
    pub fn texts(&self, key: &str) -> Result<Vec<&'a str>, Failure> {
        self.list(key)?
            .unwrap_or_default()
            .iter()
            .map(|value| value.as_str().ok_or_else(|| self.wrong(key, value, "a text")))
            .collect()
    }

    /// A list of objects; none if the list is absent.
    pub fn objects(&self, key: &str) -> Result<Option<Vec<Object<'a>>>, Failure> {
        let Some(list) = self.list(key)? else { return Ok(None) };
        let objects = list.iter().enumerate().map(|(at, value)| {
            let fields = value.as_object().ok_or_else(|| self.wrong(key, value, "an object"))?;
            Ok(Object { path: format!("{}[{at}]", self.at(key)), fields })
        });
        objects.collect::<Result<_, _>>().map(Some)
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        found.map(Some).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let wanted = match words.split_last() {
                Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
                _ => words.concat(),
            };
            self.wrong(key, &Value::from(text), &wanted)
        })
    }

    /// Says that a value is not what it must be.
    pub fn wrong(&self, key: &str, value: &Value, wanted: &str) -> Failure {
        Failure::new(Code::Configuration, format!("{} is {}, not {wanted}", self.at(key), shown(value)))
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        cast: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        cast(value).map(Some).ok_or_else(|| self.wrong(key, value, wanted))
    }

    fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// Longest value that a message repeats; people find the key without the rest.
const SHOWN_CHARS_MAX: usize = 60;

/// A value for a message.
pub fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
