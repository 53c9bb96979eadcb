//! One-time join tokens: what an administrator hands to a new host.
//!
//! Text: Base32 (upper case, no padding) of these bytes, all integers in network byte order:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, 1 |
//! | 32, 32 | mesh id, organisation id |
//! | 8, 16 | token id, secret |
//! | 4, 4 | oldest root version, oldest version of agreement 0 |
//! | 8 | last moment of validity |
//! | 7 or 19 each | 1 to 4 stewards: family 4 or 6, address, port |
//! | 4 | start of SHA-256 over a domain and everything before |

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::id::{MeshId, OrgId, TokenId};
use crate::time::Timestamp;

/// Steward addresses one token carries at most; more would make it too long to type.
pub const STEWARDS_MAX: usize = 4;

const FORMAT: u8 = 1;
const CHECKSUM_DOMAIN: &[u8] = b"meshd-v1/join-token-checksum\0";
const CHECKSUM_LEN: usize = 4;
/// Fixed fields, four IPv6 stewards and the checksum.
const BYTES_MAX: usize = 105 + STEWARDS_MAX * 19 + CHECKSUM_LEN;
/// Base32 has eight characters for five bytes.
const CHARS_MAX: usize = (BYTES_MAX * 8).div_ceil(5);
const FAMILY_V4: u8 = 4;
const FAMILY_V6: u8 = 6;

/// Secret part of a token. It never travels; only proofs made with it do.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct TokenSecret(pub [u8; 16]);

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(hidden)")
    }
}

/// Everything a new node needs to find and verify its mesh. Its text is as secret as its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The mesh.
    pub mesh: MeshId,
    /// The organisation that invites.
    pub org: OrgId,
    /// Names the token at the steward.
    pub id: TokenId,
    /// Proves that the holder was invited.
    pub secret: TokenSecret,
    /// Oldest root version the newcomer may accept.
    pub root_version_min: u32,
    /// Oldest version of agreement 0 the newcomer may accept.
    pub agreement_version_min: u32,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// Where stewards listen, best first; at least one, and only the first four fit on a token.
    pub stewards: Vec<SocketAddr>,
}

/// Reports a text that is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// Letters other than those of base32.
    #[error("it has characters that no token has")]
    Alphabet,
    /// Too short, cut off, or mistyped.
    #[error("its checksum does not fit: it is cut off or mistyped")]
    Checksum,
    /// Made by a newer release.
    #[error("its format {0} is not known to this version")]
    Format(u8),
    /// A hint that is no address.
    #[error("it is malformed")]
    Malformed,
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Zeroizing::new(BASE32_NOPAD.encode(&self.to_bytes()));
        f.write_str(&text)
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    /// Parses a token as people paste it: lower case, spaces and line breaks do no harm.
    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        // Allocated once, so that no copy of the secret stays behind in memory that grew.
        let mut letters = Zeroizing::new(Vec::with_capacity(CHARS_MAX));
        for letter in text.chars().filter(|letter| !letter.is_whitespace()) {
            let letter = letter.to_ascii_uppercase();
            if !matches!(letter, 'A'..='Z' | '2'..='7') {
                return Err(ParseTokenError::Alphabet);
            }
            if letters.len() == CHARS_MAX {
                return Err(ParseTokenError::Checksum);
            }
            letters.push(u8::try_from(letter).map_err(|_| ParseTokenError::Alphabet)?);
        }
        let bytes = BASE32_NOPAD.decode(&letters).map_err(|_| ParseTokenError::Checksum)?;
        Self::from_bytes(&Zeroizing::new(bytes))
    }
}

impl JoinToken {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(BYTES_MAX));
        out.push(FORMAT);
        out.extend_from_slice(&self.mesh.0);
        out.extend_from_slice(&self.org.0);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.secret.0);
        out.extend_from_slice(&self.root_version_min.to_be_bytes());
        out.extend_from_slice(&self.agreement_version_min.to_be_bytes());
        out.extend_from_slice(&self.not_after.0.to_be_bytes());
        for steward in self.stewards.iter().take(STEWARDS_MAX) {
            match steward.ip() {
                IpAddr::V4(v4) => {
                    out.push(FAMILY_V4);
                    out.extend_from_slice(&v4.octets());
                }
                IpAddr::V6(v6) => {
                    out.push(FAMILY_V6);
                    out.extend_from_slice(&v6.octets());
                }
            }
            out.extend_from_slice(&steward.port().to_be_bytes());
        }
        let checksum = checksum(&out);
        out.extend_from_slice(&checksum);
        out
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, ParseTokenError> {
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(ParseTokenError::Checksum)?;
        if checksum(body) != *sum {
            return Err(ParseTokenError::Checksum);
        }
        let mut rest = body;
        let [format] = take(&mut rest)?;
        if format != FORMAT {
            return Err(ParseTokenError::Format(format));
        }
        Ok(Self {
            mesh: MeshId(take(&mut rest)?),
            org: OrgId(take(&mut rest)?),
            id: TokenId(take(&mut rest)?),
            secret: TokenSecret(take(&mut rest)?),
            root_version_min: u32::from_be_bytes(take(&mut rest)?),
            agreement_version_min: u32::from_be_bytes(take(&mut rest)?),
            not_after: Timestamp(u64::from_be_bytes(take(&mut rest)?)),
            stewards: stewards(rest)?,
        })
    }
}

fn stewards(mut rest: &[u8]) -> Result<Vec<SocketAddr>, ParseTokenError> {
    let mut stewards = Vec::with_capacity(STEWARDS_MAX);
    while !rest.is_empty() {
        let ip: IpAddr = match take(&mut rest)? {
            [FAMILY_V4] => take::<4>(&mut rest)?.into(),
            [FAMILY_V6] => take::<16>(&mut rest)?.into(),
            _ => return Err(ParseTokenError::Malformed),
        };
        let port = u16::from_be_bytes(take(&mut rest)?);
        if stewards.len() == STEWARDS_MAX || port == 0 || ip.is_unspecified() {
            return Err(ParseTokenError::Malformed);
        }
        stewards.push(SocketAddr::new(ip, port));
    }
    if stewards.is_empty() { Err(ParseTokenError::Malformed) } else { Ok(stewards) }
}

fn take<const LEN: usize>(rest: &mut &[u8]) -> Result<[u8; LEN], ParseTokenError> {
    let (taken, after) = rest.split_first_chunk::<LEN>().ok_or(ParseTokenError::Malformed)?;
    *rest = after;
    Ok(*taken)
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hash = Sha256::new();
    hash.update(CHECKSUM_DOMAIN);
    hash.update(body);
    let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
    [a, b, c, d]
}
