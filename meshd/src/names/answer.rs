//! From the bytes of a query to the bytes of its answer.

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::zone::{Found, TTL_S, Zone};

/// Longest answer over UDP that is offered and used: it crosses every path unfragmented (DNS flag day 2020).
const UDP_BYTES_MAX: u16 = 1232;
/// Records that may follow the question of a query: what extends DNS, and what signs a query.
const ADDITIONALS_MAX: u16 = 4;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// An answer has to fit what the asker takes.
    Udp,
    /// An answer may have any length.
    Tcp,
}

/// Answers a query; nothing for what is none.
pub(super) fn answer(zone: &Zone, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let header = Header::read(&mut BinDecoder::new(bytes)).ok()?;
    // Two servers must not answer each other's answers.
    if header.message_type == MessageType::Response {
        return None;
    }
    if header.op_code != OpCode::Query {
        return bare(&header, ResponseCode::NotImp);
    }
    // Looked at first: a few bytes must not make room for thousands of records.
    let counts = header.counts;
    let is_plain = counts.queries == 1 && counts.answers == 0 && counts.authorities == 0;
    if !is_plain || counts.additionals > ADDITIONALS_MAX {
        return bare(&header, ResponseCode::FormErr);
    }
    let Ok(asked) = Message::from_vec(bytes) else { return bare(&header, ResponseCode::FormErr) };
    let Some(query) = asked.queries.first() else { return bare(&header, ResponseCode::FormErr) };
    let mut reply = reply_to(&header);
    reply.add_query(query.clone());
    if let Some(edns) = &asked.edns {
        reply.set_edns(own_edns(edns));
    }
    fill(&mut reply, zone, query, asked.edns.as_ref());
    let room = match transport {
        Transport::Udp => usize::from(asked.max_payload().min(UDP_BYTES_MAX)),
        Transport::Tcp => usize::from(u16::MAX),
    };
    encode(&reply, room)
}

/// Says what the zone knows.
fn fill(reply: &mut Message, zone: &Zone, query: &Query, edns: Option<&Edns>) {
    if edns.is_some_and(|edns| edns.version() > 0) {
        reply.metadata.response_code = ResponseCode::BADVERS;
        return;
    }
    let is_of_internet = [DNSClass::IN, DNSClass::ANY].contains(&query.query_class());
    let is_transfer = [RecordType::AXFR, RecordType::IXFR].contains(&query.query_type());
    let found = if is_of_internet && !is_transfer {
        zone.find(query.name(), query.query_type())
    } else {
        Found::Foreign
    };
    reply.metadata.authoritative = found != Found::Foreign;
    let record = |name, data| Record::from_rdata(name, TTL_S, data);
    match found {
        Found::Foreign => reply.metadata.response_code = ResponseCode::Refused,
        Found::Unknown { apex } => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.add_authority(record(apex, zone.authority()));
        }
        Found::Known { apex, data } if data.is_empty() => {
            reply.add_authority(record(apex, zone.authority()));
        }
        // The name as it was asked: askers compare also its capitals.
        Found::Known { data, .. } => {
            reply.add_answers(data.into_iter().map(|data| record(query.name().clone(), data)));
        }
    }
}

/// An answer of a header alone, to what can't be read further.
fn bare(header: &Header, code: ResponseCode) -> Option<Vec<u8>> {
    let mut reply = reply_to(header);
    reply.metadata.response_code = code;
    reply.to_vec().ok()
}

fn reply_to(header: &Header) -> Message {
    let mut reply = Message::response(header.id, header.op_code);
    reply.metadata = Metadata::response_from_request(&header.metadata);
    reply
}

fn own_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_BYTES_MAX);
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

/// Writes an answer; one that does not fit says so, and the asker comes back over TCP.
fn encode(reply: &Message, room: usize) -> Option<Vec<u8>> {
    let whole = reply.to_vec().ok()?;
    if whole.len() <= room { Some(whole) } else { reply.truncate().to_vec().ok() }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RData, rdata::A};

    use super::*;

    #[test]
    fn an_answer_without_room_is_its_question_with_a_mark() {
        let name: Name = "a.clinic.mesh.internal.".parse().expect("a name");
        let mut reply = Message::response(7, OpCode::Query);
        reply.add_query(Query::query(name.clone(), RecordType::A));
        reply.set_edns(Edns::new());
        for host in 0..64 {
            reply.add_answer(Record::from_rdata(name.clone(), TTL_S, RData::A(A::new(10, 91, 0, host))));
        }
        let whole = encode(&reply, 4096).expect("encodes");
        let read = Message::from_vec(&whole).expect("decodes");
        assert_eq!((read.answers.len(), read.metadata.truncation), (64, false));
        let short = encode(&reply, 512).expect("encodes");
        let read = Message::from_vec(&short).expect("decodes");
        assert!(short.len() <= 512 && read.metadata.truncation && read.edns.is_some(), "{read:?}");
        assert_eq!((read.id, read.queries.len(), read.answers.len()), (7, 1, 0));
    }
}
