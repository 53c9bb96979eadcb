//! Resolvers, which runtimes spell in two ways and results in one.

use serde_json::{Map, Value};

use crate::document::Object;
use crate::failure::Failure;

/// What a resolver needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    servers: Vec<String>,
    domain: Option<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Dns {
    /// Reads them, in the spelling of configurations or in that of runtimes.
    pub fn read(dns: &Object<'_>) -> Result<Self, Failure> {
        let texts = |keys: &[&str]| {
            let mut found = Vec::new();
            for key in keys {
                found.extend(dns.texts(key)?.into_iter().map(str::to_owned));
            }
            Ok::<_, Failure>(found)
        };
        Ok(Self {
            servers: texts(&["nameservers", "servers"])?,
            domain: dns.text("domain")?.map(str::to_owned),
            searches: texts(&["search", "searches"])?,
            options: texts(&["options"])?,
        })
    }

    /// As a result has them.
    pub fn document(&self) -> Value {
        let Self { servers, domain, searches, options } = self;
        let mut fields = Map::new();
        for (key, texts) in [("nameservers", servers), ("search", searches), ("options", options)] {
            if !texts.is_empty() {
                fields.insert(key.to_owned(), texts.clone().into());
            }
        }
        if let Some(domain) = domain {
            fields.insert("domain".to_owned(), domain.clone().into());
        }
        fields.into()
    }
}
