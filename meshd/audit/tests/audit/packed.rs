//! Bundles taken apart and put together again, as somebody who has no key can do.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// Files of a bundle by name.
pub type Files = BTreeMap<String, Vec<u8>>;

const BLOCK: usize = 512;

/// Takes a bundle apart.
pub fn unpack(bytes: &[u8]) -> Files {
    let mut files = Files::new();
    let mut at = 0;
    while bytes[at] != 0 {
        let header = &bytes[at..at + BLOCK];
        let name = header[..100].split(|byte| *byte == 0).next().expect("a name");
        let size = str::from_utf8(&header[124..135]).expect("digits");
        let size = usize::from_str_radix(size, 8).expect("octal");
        let content = bytes[at + BLOCK..at + BLOCK + size].to_vec();
        files.insert(String::from_utf8(name.to_vec()).expect("a name"), content);
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    files
}

/// Puts files together in some order, with the manifest that they have.
pub fn pack<'f>(files: impl IntoIterator<Item = (&'f String, &'f Vec<u8>)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        let mut header = [0; BLOCK];
        let fields: [(usize, String); 8] = [
            (0, name.clone()),
            (100, "0000644\0".into()),
            (108, "0000000\0".into()),
            (116, "0000000\0".into()),
            (124, format!("{:011o}\0", content.len())),
            (136, "00000000000\0".into()),
            (148, "        0".into()),
            (257, "ustar\x0000".into()),
        ];
        for (at, field) in fields {
            header[at..at + field.len()].copy_from_slice(field.as_bytes());
        }
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(header);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    bytes
}

/// Puts files together with a manifest that fits.
pub fn seal(files: &Files) -> Vec<u8> {
    let mut files = files.clone();
    files.remove("MANIFEST");
    let lines = files.iter().map(|(name, content)| {
        let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{digest}  {name}\n")
    });
    let manifest: String = lines.collect();
    files.insert("MANIFEST".to_owned(), manifest.into_bytes());
    pack(&files)
}
