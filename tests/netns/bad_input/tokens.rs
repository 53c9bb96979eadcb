//! Tokens that admit nobody.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use data_encoding::BASE32_NOPAD;
use mesh_lab::{story, wait};
use sha2::{Digest, Sha256};

use crate::exit::{CONFLICT, REFUSED};
use crate::watch::{files, identity, is_outside, refused};

/// Parts of a token, by the table in its format.
const MESH_AT: usize = 1;
const SECRET_AT: usize = 73;
const CHECKSUM_LEN: usize = 4;
const CHECKSUM_DOMAIN: &[u8] = b"meshd-v1/join-token-checksum\0";

#[test]
fn a_mistyped_or_cut_off_token_is_no_token() {
    story("token-text", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let _daemon = b.meshd("")?;
        let good = mesh.token()?;
        // Every length near the ends, and some between.
        let len = good.len();
        let lengths = (0..8).chain((8..len - 8).step_by(11)).chain(len - 8..len);
        for cut in lengths {
            refused(&b.ctl(&["join", good.get(..cut).unwrap_or_default()])?, REFUSED, &["no join token"])?;
        }
        for at in (0..len).step_by(13) {
            let mut wrong = good.clone();
            let other = if wrong.get(at..=at) == Some("A") { "B" } else { "A" };
            wrong.replace_range(at..=at, other);
            refused(&b.ctl(&["join", &wrong])?, REFUSED, &["no join token", "hint: "])?;
        }
        refused(&b.ctl(&["join", "not a token!"])?, REFUSED, &["characters that no token has"])?;
        refused(&b.ctl(&["join", &good.repeat(9)])?, REFUSED, &["no join token"])?;
        is_outside(&b)?;
        b.ctl(&["join", &good])?.ok().map(drop)
    });
}

#[test]
fn a_token_with_another_secret_or_of_another_mesh_admits_nobody() {
    story("token-forged", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let other = lab.mesh("labs", &[&c])?;
        let _daemon = b.meshd("")?;
        let good = mesh.token()?;
        let guessed = edited(&good, |bytes| flip(bytes, SECRET_AT))?;
        refused(&b.ctl(&["join", &guessed])?, REFUSED, &["does not know this token", "meshctl invite"])?;
        // The other mesh's ids and secret, with the addresses of this mesh's steward.
        let foreign = BASE32_NOPAD.decode(other.token()?.as_bytes())?;
        let misled = edited(&good, |bytes| {
            let fixed = MESH_AT..SECRET_AT + 16;
            if let (Some(to), Some(from)) = (bytes.get_mut(fixed.clone()), foreign.get(fixed)) {
                to.copy_from_slice(from);
            }
        })?;
        refused(&b.ctl(&["join", &misled])?, REFUSED, &["another mesh"])?;
        is_outside(&b)?;
        assert!(a.peers()?.is_empty() && c.peers()?.is_empty());
        b.ctl(&["join", &good])?.ok().map(drop)
    });
}

#[test]
fn an_expired_token_admits_nobody() {
    story("token-expired", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let _mesh = lab.mesh("clinics", &[&a])?;
        let _daemon = b.meshd("")?;
        let invited = a.ctl(&["invite", "--ttl", "1s"])?.ok()?;
        let token = invited["token"].as_str().context("a token")?;
        let end = Duration::from_secs(invited["expires_at"].as_u64().context("its end")? + 1);
        wait::until(Duration::from_secs(10), "the token is over", || {
            SystemTime::now().duration_since(UNIX_EPOCH).is_ok_and(|now| now > end)
        })?;
        refused(&b.ctl(&["join", token])?, REFUSED, &["expired", "meshctl invite"])?;
        assert!(a.peers()?.is_empty());
        is_outside(&b)
    });
}

#[test]
fn a_used_token_admits_nobody_else() {
    story("token-used", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let _daemons = [b.meshd("")?, c.meshd("")?];
        let token = mesh.token()?;
        b.ctl(&["join", &token])?.ok()?;
        refused(&c.ctl(&["join", &token])?, REFUSED, &["used before", "meshctl invite"])?;
        assert_eq!(a.peers()?.len(), 1);
        is_outside(&c)
    });
}

#[test]
fn a_member_of_one_mesh_does_not_join_another() {
    story("token-member", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let other = lab.mesh("labs", &[&b])?;
        let before = identity(&b)?;
        let token = mesh.token()?;
        refused(&b.ctl(&["join", &token])?, CONFLICT, &["member of mesh labs", "meshctl leave"])?;
        refused(&a.ctl(&["join", &token])?, CONFLICT, &["member of mesh clinics"])?;
        assert_eq!(identity(&b)?, before);
        assert!(!files(&b.state_dir())?.is_empty());
        // Neither attempt has used the token up.
        let c = lab.host("c")?;
        let _daemon = c.meshd("")?;
        c.ctl(&["join", &token])?.ok()?;
        drop(other);
        Ok(())
    });
}

/// A token with changed bytes and a right checksum.
fn edited(token: &str, edit: impl FnOnce(&mut Vec<u8>)) -> Result<String> {
    let mut bytes = BASE32_NOPAD.decode(token.as_bytes()).context("decode a token")?;
    bytes.truncate(bytes.len() - CHECKSUM_LEN);
    edit(&mut bytes);
    let checksum = Sha256::new().chain_update(CHECKSUM_DOMAIN).chain_update(&bytes).finalize();
    bytes.extend_from_slice(checksum.get(..CHECKSUM_LEN).unwrap_or_default());
    Ok(BASE32_NOPAD.encode(&bytes))
}

fn flip(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}
