//! Where the fields of TCP and UDP headers stand, from the beginning of the header.

/// TCP (RFC 9293 section 3.1).
pub(crate) mod tcp {
    /// Bytes of the header without options.
    pub(crate) const HEADER_LEN: usize = 20;
    pub(crate) const SEQUENCE_AT: usize = 4;
    /// Length of the header in words of four bytes, in the upper half of the byte.
    pub(crate) const OFFSET_AT: usize = 12;
    pub(crate) const FLAGS_AT: usize = 13;
    pub(crate) const CHECKSUM_AT: usize = 16;

    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const CWR: u8 = 0x80;
}

/// UDP (RFC 768).
pub(crate) mod udp {
    pub(crate) const HEADER_LEN: usize = 8;
    pub(crate) const LEN_AT: usize = 4;
    pub(crate) const CHECKSUM_AT: usize = 6;
}

/// The field of `FIELD` bytes that stands `AT` bytes into a header.
#[inline(always)]
pub(crate) fn field<const AT: usize, const FIELD: usize, const HEADER: usize>(
    header: &mut [u8; HEADER],
) -> &mut [u8; FIELD] {
    const { assert!(AT + FIELD <= HEADER, "a field lies within its header") };
    header[AT..].first_chunk_mut().expect("it was checked when this was compiled")
}

/// What stands in that field.
#[inline(always)]
pub(crate) fn bytes<const AT: usize, const FIELD: usize, const HEADER: usize>(
    header: &[u8; HEADER],
) -> [u8; FIELD] {
    const { assert!(AT + FIELD <= HEADER, "a field lies within its header") };
    *header[AT..].first_chunk().expect("it was checked when this was compiled")
}
