//! The attachments that GC leaves alone.

use meshd_api::KeptAttachment;

use crate::document::Object;
use crate::failure::{Code, Failure};

/// Both names of the list: the first text of the specification had the second one.
const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// What stays. An empty list means that nothing does; without a list nobody knows, which must not mean the same.
pub fn kept(root: &Object<'_>) -> Result<Vec<KeptAttachment>, Failure> {
    if !KEYS.iter().any(|key| root.has(key)) {
        return Err(Failure::new(Code::Configuration, format!("{} is missing", KEYS[0])));
    }
    let mut kept = Vec::new();
    for key in KEYS {
        for entry in root.objects(key)?.unwrap_or_default() {
            kept.push(KeptAttachment {
                container: entry.required("containerID")?.to_owned(),
                ifname: entry.required("ifname")?.to_owned(),
            });
        }
    }
    kept.sort_by(|one, other| (&one.container, &one.ifname).cmp(&(&other.container, &other.ifname)));
    kept.dedup();
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::parse;

    fn of(text: &str) -> Result<Vec<String>, Code> {
        let fields = parse(text.as_bytes()).expect("an object");
        let kept = kept(&Object::root(&fields)).map_err(|failure| failure.code())?;
        Ok(kept.iter().map(|one| format!("{} {}", one.container, one.ifname)).collect())
    }

    #[test]
    fn both_names_of_the_list_are_read_and_united() {
        let a = r#"[{"containerID":"a","ifname":"eth0"}]"#;
        let b = r#"[{"ContainerID":"b","IfName":"eth1"},{"containerID":"a","ifname":"eth0"}]"#;
        assert_eq!(of(&format!(r#"{{"cni.dev/valid-attachments":{a}}}"#)), Ok(vec!["a eth0".to_owned()]));
        assert_eq!(of(&format!(r#"{{"cni.dev/attachments":{a}}}"#)), Ok(vec!["a eth0".to_owned()]));
        let both = format!(r#"{{"cni.dev/attachments":{a},"cni.dev/valid-attachments":{b}}}"#);
        assert_eq!(of(&both), Ok(vec!["a eth0".to_owned(), "b eth1".to_owned()]));
    }

    #[test]
    fn an_empty_list_keeps_nothing_and_no_list_is_refused() {
        for empty in ["[]", "null"] {
            assert_eq!(of(&format!(r#"{{"cni.dev/valid-attachments":{empty}}}"#)), Ok(vec![]), "{empty}");
        }
        assert_eq!(of("{}"), Err(Code::Configuration));
    }

    #[test]
    fn a_list_that_is_not_understood_removes_nothing() {
        for bad in [
            "{}",
            "7",
            r#"["a"]"#,
            r#"[{"ifname":"eth0"}]"#,
            r#"[{"containerID":"a"}]"#,
            r#"[{"containerID":1,"ifname":"e"}]"#,
        ] {
            assert_eq!(of(&format!(r#"{{"cni.dev/attachments":{bad}}}"#)), Err(Code::Configuration), "{bad}");
        }
    }
}
