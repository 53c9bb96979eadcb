#!/usr/bin/env python3
"""Verifies a bundle of meshd's audit log: the second verifier, written from docs/audit.md and docs/records.md alone.

Ends with 0 clean, 1 usage or IO, 2 findings, 3 evidence of tampering, 4 incomplete; the worst in the order 3, 4, 2.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
import unicodedata
from collections import defaultdict
from contextlib import contextmanager
from types import SimpleNamespace

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    sys.exit("error: Python's package `cryptography` is missing\nhint: Debian has it as python3-cryptography")


class Refused(Exception):
    """The file is no bundle of this mesh: nothing in it is judged."""
    code = 1


class Changed(Refused):
    """A bundle of which something was changed since it was made: nothing in it is judged."""
    code = 3


class Wrong(Exception):
    """Something is not as it was signed: evidence of tampering."""


class Absent(Exception):
    """Something can't be judged, because it or what it rests on is not there: incomplete."""


class Notice(Exception):
    """Something that an auditor should know, and that breaks no rule."""


class Findings(list):
    def add(self, code, found, log=None, index=None):
        level = {Wrong: 3, Absent: 4, Notice: 0}.get(type(found), 2)
        self.append({"code": code, "log": log, "index": index, "class": level, "words": str(found)})

    @contextmanager
    def of(self, code, log=None, index=None):
        try:
            yield
        except (Wrong, Absent) as found:
            self.add(code, found, log, index)

    def verdict(self):
        levels = {finding["class"] for finding in self}
        return next((level for level in (3, 4, 2) if level in levels), 0)


def must(holds, words, error=Wrong):
    if not holds:
        raise error(words)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def base32(octets):
    return base64.b32encode(octets).decode().rstrip("=").lower()


def id_of(word):
    """The id that Base32 stands for; one word only does."""
    octets = base64.b32decode(word.upper() + "====") if re.fullmatch("[a-z2-7]{52}", word) else b""
    must(base32(octets) == word and octets, f"not an id: {word}", Refused)
    return octets


def base64_of(word):
    """The bytes that Base64 with padding stands for; one word only does."""
    try:
        octets = base64.b64decode(word, validate=True)
    except ValueError:
        octets = None
    must(octets is not None and base64.b64encode(octets).decode() == word, "not Base64")
    return octets


def framed(octets, width):
    """Pieces, each behind its length, and what is left over."""
    pieces, at = [], 0
    while at + width <= len(octets):
        end = at + width + int.from_bytes(octets[at:at + width], "big")
        if end > len(octets):
            break
        pieces.append(octets[at + width:end])
        at = end
    return pieces, octets[at:]


# --- Encoding: CBOR in which each value has one encoding, and structures (records.md, "Encoding").

def decode(octets):
    value, end = element(octets, 0, 0)
    must(end == len(octets), "bytes behind the CBOR")
    return value


def element(octets, at, depth):
    must(at < len(octets), "CBOR ends early")
    major, number, at = octets[at] >> 5, octets[at] & 31, at + 1
    if major == 7:
        must(number in (20, 21, 22), "a float or simple value")
        return {20: False, 21: True, 22: None}[number], at
    must(major in (0, 2, 3, 4) and number <= 27, "CBOR that records do not have")
    if number >= 24:
        width, least = 1 << (number - 24), (24, 1 << 8, 1 << 16, 1 << 32)[number - 24]
        number, at = int.from_bytes(octets[at:at + width], "big"), at + width
        must(at <= len(octets) and number >= least, "not the shortest integer")
    if major == 0:
        return number, at
    if major == 4:
        must(number <= 4096 and depth < 8, "too many elements, or too deep")
        values = []
        for _ in range(number):
            value, at = element(octets, at, depth + 1)
            values.append(value)
        return values, at
    must(at + number <= len(octets), "CBOR ends early")
    try:
        return (octets[at:at + number] if major == 2 else octets[at:at + number].decode("utf-8")), at + number
    except UnicodeDecodeError:
        raise Wrong("not UTF-8") from None


# Fields in their order. `?` may be absent, `[]` is an array, `<>` one that is sorted and distinct, `bN` are N bytes.
STRUCTURES = {name: [field.split(":") for field in fields.split()] for name, fields in {
    "Envelope": "format:u8 kind:u16 payload:bytes signatures:<Signature>",
    "Signature": "key_id:b32 octets:b64",
    "OrgRoot": "version:u8 root_version:u32 name:text keys:<b32> threshold:u8 not_after:u64 prev:b32?",
    "StewardDelegation": "version:u8 org:b32 root_version:u32 serial:u32 record_key:b32 log_key:b32 witness_key:b32"
                         " tls_key:b32 roles:u8 label_namespace:text not_before:u64 not_after:u64",
    "MeshGenesis": "version:u8 name:text nonce:b16 lab:bool agreement:Terms witness_quorum:u8",
    "Terms": "number:u32 agreement_version:u32 members:<Member> not_before:u64 not_after:u64 soft:u32 hard:u32"
                 " key_age_max:u32 grace_max:u32 post_quantum:u8",
    "Member": "org:b32 prefix4:Prefix subnet6:u16",
    "Prefix": "address:address length:u8",
    "NodeCert": "version:u8 node:b32 org:b32 root_version:u32 serial:u64 name:text identity:b32 transport:b32 addr4:b4"
                " addr6:b16 prefixes:[Prefix] labels:<Label> may_attest:<text> not_before:u64 not_after:u64",
    "Label": "key:text value:text",
    "NodeKeys": "version:u8 node:b32 seq:u64 issued_at:u64 suites:u8 post_quantum:u8 compromised:bool cur:EpochKey"
                " next:EpochKey? prev:EpochKey? accept_until:u64?",
    "EpochKey": "epoch:u32 key:b32 since:u64",
    "Revocations": "version:u8 org:b32 root_version:u32 n:u64 issued_at:u64 nodes:<b32> certs:<u64> severed:<b32>",
    "OrgState": "version:u8 org:b32 root_version:u32 seq:u64 issued_at:u64 agreement_version:u32 policy:Counted?"
                " revocations:Counted? checkpoint:Counted?",
    "Counted": "number:u64 id:b32",
    "NodeLeave": "version:u8 node:b32 issued_at:u64",
    "Leaf": "version:u8 time:u64 kind:u16 org:b32 subject:b32 epoch:u32? record:b32? actor:b32 prev:u64?"
            " receipts:Receipts?",
    "Receipts": "count:u32 digest:b32",
}.items()}


def typed(kind, value):
    """A decoded value as what it has to be."""
    if kind.endswith("?"):
        return None if value is None else typed(kind[:-1], value)
    if kind[0] in "[<":
        must(type(value) is list, "not an array")
        values = [typed(kind[1:-1], one) for one in value]
        places = [one[0] if type(one) is list else one for one in value] if kind[0] == "<" else []
        must(all(one < other for one, other in zip(places, places[1:])), "not sorted, or not distinct")
        return values
    if kind in STRUCTURES:
        fields = STRUCTURES[kind]
        must(type(value) is list and 0 < len(value) <= len(fields) and value[-1] is not None, f"no {kind}")
        if fields[0][0] == "version":
            must(typed("u8", value[0]) == 1, "an unknown version", Absent)
        value = value + [None] * (len(fields) - len(value))
        return SimpleNamespace(**{name: typed(of, one) for (name, of), one in zip(fields, value)})
    if re.fullmatch("u[0-9]+", kind):
        must(type(value) is int and value < 1 << int(kind[1:]), f"no {kind}")
    elif re.fullmatch("b[0-9]+", kind):
        must(type(value) is bytes and len(value) == int(kind[1:]), f"no {kind}")
    elif kind == "address":
        must(type(value) is bytes and len(value) in (4, 16), "no address")
    else:
        must(type(value) is {"text": str, "bool": bool, "bytes": bytes}[kind], f"no {kind}")
    return value


# --- Signatures and envelopes (records.md, R1 to R5 and "Envelope").

P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
KINDS = dict(enumerate("""OrgRoot StewardDelegation MeshGenesis Agreement Leave NodeCert NodeKeys NodePaths Endpoint
    OrgPolicy Revocations OrgState Receipt Recovery""".split(), 1))
KINDS.update({64: "JoinRequest", 65: "NodeLeave", 66: "NodeExternals"})
ROLES, ROLE_LOG = {"NodeCert": 1, "Revocations": 2, "OrgState": 16}, 8
CHAIN = {  # what stands in a chain, in this order
    "MeshGenesis": lambda record: (0,),
    "OrgRoot": lambda record: (1, record.says.root_version, record.id),
    "StewardDelegation": lambda record: (2, record.says.org, record.says.root_version, record.says.serial),
    "Revocations": lambda record: (3, record.says.org),
    "OrgState": lambda record: (4, record.says.org),
}


def ed25519_point(octets):
    """One canonical encoding and no small order: those have y = 0, y^2 = 1, or d y^4 + 2 y^2 = 1 (x^2 = -y^2)."""
    y = int.from_bytes(octets, "little") & (1 << 255) - 1
    return y < P and y * (y * y - 1) * (D * y**4 + 2 * y * y - 1) % P != 0


def x25519_key(octets):
    """Canonical, and no small order: those are 0, 1, -1, and what doubles to 1."""
    u = int.from_bytes(octets, "little")
    return u < P and u * (u * u - 1) * ((u * u - 1) ** 2 - 4 * u * (u * u + 486662 * u + 1)) % P != 0


def verifies(key, signature, message):
    point, s = signature[:32], int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or not (ed25519_point(key) and ed25519_point(point) and s < ORDER):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)  # compares the bytes of R: no cofactor
    except (InvalidSignature, ValueError):
        return False
    return True


def key_id(key):
    return sha256(b"meshd-v1/key\x00\x01", key)


def opened(octets, mesh):
    """An envelope and the record in it, if its kind matters here. No signature is verified yet."""
    must(len(octets) <= 65536, "too long an envelope")
    record = typed("Envelope", decode(octets))
    must(record.format == 1, "an unknown format of envelope")
    must(record.kind in KINDS, f"a record of kind {record.kind} can't be judged", Absent)
    record.name, founding = KINDS[record.kind], record.kind in (1, 3)
    must(len(record.signatures) <= (64 if founding else 16), "too many signatures")
    record.message = b"".join(
        [b"meshd-v1/", record.name.encode(), b"\x00", bytes(32) if founding else mesh, record.payload])
    record.id, value = sha256(record.message), decode(record.payload)
    record.says = typed(record.name, value) if record.name in STRUCTURES else None
    return record


def signers(record, keys):
    """Ids of the keys that signed: all signatures verify and are by these keys."""
    by_id = {key_id(key): key for key in keys}
    for one in record.signatures:
        must(one.key_id in by_id, "signed by a key that may not")
        must(verifies(by_id[one.key_id], one.octets, record.message), "a signature does not verify")
    return {one.key_id for one in record.signatures}


def reached(root, signed):
    return len(signed & {key_id(key) for key in root.keys}) >= root.threshold


# --- Chain: what the mesh id proves.

class Mesh:
    def __init__(self, mesh, chain, findings):
        self.id, self.roots, self.stewards, self.chain = mesh, defaultdict(dict), defaultdict(list), set()
        envelopes, rest = framed(chain, 4)
        must(not rest, "a chain that ends early", Refused)
        records = []
        for index, octets in enumerate(envelopes):
            with findings.of("AUTHORITY", index=index):
                record = opened(octets, mesh)
                must(record.name in CHAIN, f"a chain has no {record.name}")
                records.append((index, record))
        geneses = [record for _, record in records if record.name == "MeshGenesis"]
        must(len(geneses) == 1, "a chain without one genesis", Refused)
        must(geneses[0].id == mesh, "the genesis is not that of the mesh id", Changed)
        places = [CHAIN[record.name](record) for _, record in records]
        must(places == sorted(places), "the chain is not in its order", Changed)
        self.members = [member.org for member in geneses[0].says.agreement.members]
        # The genesis is verified by the roots, and they do not need it.
        for index, record in records[1:] + records[:1]:
            with findings.of("AUTHORITY", index=index):
                self.verify(record)
                self.chain.add(record.id)
                if record.name == "OrgRoot":
                    known = self.roots[record.org].setdefault(record.says.root_version, record)
                    must(known.id == record.id, "a second content of one root version")
                elif record.name == "StewardDelegation":
                    self.stewards[record.says.org].append(record.says)

    def verify(self, record):
        """Who signed a record that roots or stewards sign."""
        says = record.says
        if record.name == "OrgRoot":
            return self.verify_root(record)
        if record.name == "MeshGenesis":
            must(record.id == self.id, "the genesis is not that of the mesh id")
            roots = [[root.says for root in self.roots[org].values()] for org in self.members]
            must(all(roots), "roots of members are missing", Absent)
            signed = signers(record, [key for member in roots for root in member for key in root.keys])
            proven = all(any(reached(root, signed) for root in member) for member in roots)
            must(proven, "not all members signed the genesis", Absent)
            return signed
        if record.name != "StewardDelegation":
            keys = self.record_keys(says.org, ROLES[record.name], says.root_version)
            by_steward = {one.key_id for one in record.signatures} & {key_id(key) for key in keys}
            if record.name != "Revocations" or by_steward:
                must(len(record.signatures) == 1, "not one signature")
                return signers(record, keys)
        else:
            must(says.not_before <= says.not_after <= says.not_before + 90 * 86400 + 300, "delegated for too long")
        root = self.root(says.org, says.root_version).says
        signed = signers(record, root.keys)
        must(reached(root, signed), "too few signatures")
        return signed

    def record_keys(self, org, role=0, root_version=0):
        return [steward.record_key for steward in self.stewards[org]
                if steward.roles & role == role and steward.root_version >= root_version]

    def verify_root(self, record):
        root, chained = record.says, []
        must(1 <= root.threshold <= len(root.keys) <= 32 and 1 <= root.root_version <= 64, "no root")
        must((root.prev is None) == (root.root_version == 1), "no root")
        if root.prev is None:
            must(record.id in self.members, "the root of a stranger")
            record.org = record.id
        else:
            before = [known for org in self.members for known in self.roots[org].values() if known.id == root.prev]
            must(before, "the root before is missing", Absent)
            record.org, chained = before[0].org, [before[0].says]
            must(chained[0].root_version + 1 == root.root_version, "not the version behind the root before")
        signed = signers(record, [key for each in [root] + chained for key in each.keys])
        must(all(reached(each, signed) for each in [root] + chained), "too few signatures")
        return signed

    def root(self, org, version):
        must(org in self.members, "of a stranger")
        must(version in self.roots[org], f"root version {version} is missing", Absent)
        return self.roots[org][version]

    def log_name(self, org):
        return f"meshd/{base32(self.id)}/{base32(org)}"

    def note_keys(self, org):
        """The keys whose lines count on notes of this log, by name and number: organisation, type and key."""
        keys = [(org, 1, steward.log_key) for steward in self.stewards[org] if steward.roles & ROLE_LOG]
        keys += [(other, 4, steward.witness_key) for other in self.members if other != org
                 for steward in self.stewards[other]]
        return {(self.log_name(of), sha256(self.log_name(of).encode(), b"\n", bytes([kind]), key)[:4]): (of, kind, key)
                for of, kind, key in keys}


# --- Notes, checkpoints and trees (audit.md).

def checkpoint(note, name, keys):
    """A signed tree: size, root, when each organisation cosigned it first, and whose lines nobody can judge."""
    must(len(note) <= 32768, "too long a note")
    try:
        note = note.decode("utf-8")
    except UnicodeDecodeError:
        raise Wrong("not UTF-8") from None
    must(not any(unicodedata.category(one) == "Cc" and one != "\n" for one in note), "control characters")
    text, _, lines = note.rpartition("\n\n")
    text, lines, logged, cosigned, seen = text + "\n", lines.split("\n"), False, {}, {}
    must(lines.pop() == "" and 1 <= len(lines) <= 128, "not a text, an empty line and signatures")
    for line in lines:
        dash, signer, octets = line.split(" ") if line.count(" ") == 2 else ("", "", "")
        must(dash == "\u2014" and re.fullmatch(r"[^\s+]+", signer), "not a line of a signature")
        octets = base64_of(octets)
        place = (signer, octets[:4])
        must(len(octets) > 4 and place not in seen, "an empty signature, or a second one of a key")
        of, kind, key = keys.get(place, (None, None, None))
        seen[place] = kind
        if kind == 1:
            must(verifies(key, octets[4:], text.encode()), "the log's signature does not verify")
            logged = True
        elif kind == 4:
            time = int.from_bytes(octets[4:12], "big")
            cosigned_text = f"cosignature/v1\ntime {time}\n{text}".encode()
            must(time < 1 << 63 and verifies(key, octets[12:], cosigned_text), "a cosignature does not verify")
            cosigned[of] = min(time, cosigned.get(of, time))
    must(logged, "no key of the log signed it")
    lines = text.split("\n")
    must(len(lines) == 4 and lines[0] == name and re.fullmatch("0|[1-9][0-9]{0,18}", lines[1])
         and int(lines[1]) < 1 << 63 and len(base64_of(lines[2])) == 32, "no checkpoint of this log")
    strangers = [signer for (signer, _), kind in seen.items() if kind is None]
    return SimpleNamespace(size=int(lines[1]), root=base64_of(lines[2]), cosigned=cosigned, strangers=strangers)


class Tree:
    """The tree over leaves, as the roots of all its full subtrees: at level n those of 2^n leaves."""

    def __init__(self, leaves):
        self.levels = [[sha256(b"\x00", leaf) for leaf in leaves]]
        while len(self.levels[-1]) > 1:
            below = self.levels[-1]
            self.levels.append([sha256(b"\x01", *below[at:at + 2]) for at in range(0, len(below) - 1, 2)])

    def root(self, size):
        right = None
        for level in range(size.bit_length()):
            if size >> level & 1:
                left = self.levels[level][(size >> level) - 1]
                right = sha256(b"\x01", left, right) if right else left
        return right or sha256()

    def tile(self, level, index, width):
        hashes = self.levels[8 * level] if 8 * level < len(self.levels) else []
        return b"".join(hashes[256 * index:256 * index + width])


TILE = re.compile(r"(tile/[0-7]|tile/entries|record)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


def tile_of(name):
    """Series, index and width of the tile with this name."""
    match = TILE.fullmatch(name)
    must(match and not match[2].startswith("x000") and int(match[3] or 1) <= 255, f"no file of a log: {name}")
    return match[1], int(re.sub("[x/]", "", match[2])), int(match[3] or 256)


# --- A log and its findings (audit.md, "Audit").

ENROL, RENEW, ANNOUNCE, ACTIVATE, DESTROY, COMPROMISED, REVOKE = range(1, 8)
JOIN, DELEGATE, ROOT, TOKEN_ISSUE, TOKEN_USE, ROLLBACK, NEWEST = 11, 13, 15, 16, 17, 18, 21
OF_EPOCHS = (ANNOUNCE, ACTIVATE, DESTROY, COMPROMISED, ROLLBACK)
SAYS = {  # which records a kind of leaf names, and what such a record says of the leaf
    JOIN: (["MeshGenesis"], lambda leaf, says: leaf.subject == leaf.org),
    DELEGATE: (["StewardDelegation"], lambda leaf, says: leaf.subject == leaf.org),
    ROOT: (["OrgRoot"], lambda leaf, says: leaf.subject == leaf.org and says.prev is not None),
    ENROL: (["NodeCert"], lambda leaf, says: True),
    RENEW: (["NodeCert"], lambda leaf, says: True),
    ANNOUNCE: (["NodeKeys"], lambda leaf, says: says.next is not None and says.next.epoch == leaf.epoch),
    ACTIVATE: (["NodeKeys"], lambda leaf, says: says.cur.epoch == leaf.epoch),
    DESTROY: (["NodeKeys"], lambda leaf, says: leaf.epoch not in [key.epoch for key in held(says)]),
    COMPROMISED: (["NodeKeys"], lambda leaf, says: True),
    ROLLBACK: (["NodeKeys"], lambda leaf, says: True),
    REVOKE: (["Revocations", "NodeLeave"], lambda leaf, says: True),
}
LOG_ROLLBACK = (["OrgState"], lambda leaf, says: leaf.subject == leaf.org)


def held(keys):
    return [key for key in (keys.prev, keys.cur, keys.next) if key]


class Log:
    def __init__(self, mesh, org, files, findings):
        self.mesh, self.org, self.name, self.findings = mesh, org, base32(org), findings
        self.notes, self.tiles, self.leaves, self.records = {}, defaultdict(dict), [], {}
        for name, octets in files.items():
            if re.fullmatch("checkpoint|checkpoints/(0|[1-9][0-9]*)", name):
                self.notes[name] = octets
            else:
                with self.of("TILE"):
                    series, index, width = tile_of(name)
                    self.tiles[series][index, width] = octets
        self.nodes, self.seen, self.times, self.last, self.certs = {}, set(), {}, {}, defaultdict(list)

    def add(self, code, found, index=None):
        self.findings.add(code, found, self.name, index)

    def of(self, code, index=None):
        return self.findings.of(code, self.name, index)

    def audit(self, at, period, keys_seen):
        trees = self.signed_trees()
        if not trees:
            return
        self.read_tiles(max(tree.size for tree in trees))
        self.compare(trees)
        for index, octets in enumerate(self.leaves):
            leaf = self.readable(index, octets)
            if leaf:
                record = None
                if index in self.records:
                    with self.of("RECORD", index):
                        record = self.judged(index, leaf)
                self.live(index, leaf, record and record.says, period)
                if record and leaf.kind in (ANNOUNCE, ACTIVATE):
                    self.compare_keys(index, record.says, keys_seen)
        for node in self.nodes.values():
            self.end_use(node, at if node.certified is None else min(at, node.certified), at)
            for epoch, (deadline, index) in node.left.items():
                if deadline is not None and deadline < at:
                    self.add("UNDESTROYED", f"epoch {epoch}", index)
        self.witnesses(trees, at)

    def signed_trees(self):
        trees, keys = [], self.mesh.note_keys(self.org)
        for name, note in self.notes.items():
            with self.of("CHECKPOINT", name):
                tree = checkpoint(note, self.mesh.log_name(self.org), keys)
                must(name in ("checkpoint", f"checkpoints/{tree.size}"), "a checkpoint in the place of another")
                trees.append(tree)
                for signer in tree.strangers:
                    self.add("SIGNER", Absent(f"a signature in the name of {signer} by a key that is not known"), name)
        if "checkpoint" not in self.notes:
            self.add("CHECKPOINT", Absent("the newest checkpoint is missing"))
        return trees

    def read_tiles(self, size):
        """Reads the files that the log has if its tree is of this size; those behind missing leaves are not judged."""
        self.read_series("tile/entries", size, size)
        self.tree = Tree(self.leaves)
        self.read_series("record", size, len(self.leaves))
        for level in range(8):
            self.read_series(f"tile/{level}", size >> 8 * level, len(self.leaves) >> 8 * level)

    def read_series(self, series, count, judged):
        files = self.tiles[series]
        for index, width in files:
            if width != min(256, count - 256 * index):
                self.add("TILE", Wrong(f"a {series} that a log of this size does not have"), 256 * index)
        for first in range(0, judged, 256):
            width = min(256, count - first)
            try:
                must((first // 256, width) in files, f"a {series} is missing", Absent)
                self.read_file(series, first, width, files[first // 256, width])
            except (Wrong, Absent) as found:
                self.add("TILE", found, first)
                if series == "tile/entries":
                    return

    def read_file(self, series, first, width, octets):
        if series in ("tile/entries", "record"):
            pieces, rest = framed(octets, 2 if series == "tile/entries" else 4)
            must(not rest and len(pieces) == width, f"a {series} has not the pieces it should")
            if series == "record":
                self.records.update(enumerate(pieces, first))
            else:
                self.leaves += pieces
        else:
            mine = self.tree.tile(int(series[5:]), first // 256, width)
            must(len(octets) == 32 * width and octets.startswith(mine), f"a {series} is not that of the leaves")

    def compare(self, trees):
        roots = defaultdict(set)
        for tree in trees:
            roots[tree.size].add(tree.root)
        for size, signed in sorted(roots.items()):
            if len(signed) > 1:
                self.add("FORK", Wrong("two signed trees of one size"), size)
            if size > len(self.leaves):
                self.add("MISSING", Absent(f"only {len(self.leaves)} leaves of a signed tree"), size)
            elif self.tree.root(size) not in signed:
                self.add("ROOT", Wrong("the leaves are not those of a signed tree"), size)

    def readable(self, index, octets):
        try:
            leaf = typed("Leaf", decode(octets))
            must(leaf.org == self.org, "a leaf of another organisation")
        except (Wrong, Absent) as why:
            return self.add("UNREADABLE", Absent(str(why)), index)
        if leaf.prev != self.last.get(leaf.subject):
            self.add("CHAIN", f"prev is {leaf.prev}, not {self.last.get(leaf.subject)}", index)
        self.last[leaf.subject], self.times[index] = index, leaf.time
        if not 1 <= leaf.kind <= NEWEST:
            return self.add("UNREADABLE", Absent(f"a leaf of the unknown kind {leaf.kind}"), index)
        return leaf

    def judged(self, index, leaf):
        """The record of a leaf, once it is found to be right."""
        octets, known = self.records[index], self.certs[leaf.subject]
        if leaf.record is None:
            must(not octets, "a record beside a leaf that names none")
            must(leaf.kind not in SAYS, "the leaf names no record", Absent)
            if leaf.kind in (TOKEN_ISSUE, TOKEN_USE):
                stewards = [key_id(key) for key in self.mesh.record_keys(self.org)]
                must(leaf.actor in stewards, "a token that is not a steward's")
            return None
        must(octets, "the record is missing", Absent)
        record = opened(octets, self.mesh.id)
        says = record.says
        if leaf.kind == DELEGATE and record.id not in self.mesh.chain:
            self.add("AUTHORITY", Absent("a delegation that is not in the chain"), index)
        must(record.id == leaf.record, "not the record that the leaf names")
        if leaf.kind not in SAYS:
            return None
        of_log = leaf.kind == ROLLBACK and leaf.epoch is None  # the log itself came back from a backup
        names, fits = LOG_ROLLBACK if of_log else SAYS[leaf.kind]
        must(record.name in names and getattr(says, "org", leaf.org) == leaf.org
             and getattr(says, "node", leaf.subject) == leaf.subject
             and (leaf.epoch is not None) == (leaf.kind in OF_EPOCHS and not of_log) and fits(leaf, says),
             "the record does not say what the leaf does")
        if record.name in ("NodeKeys", "NodeLeave"):
            must(known, "no certificate before it says who may sign", Absent)
            signed = signers(record, [cert.identity for cert in known])
            must(len(signed) == 1, "not one signature")
        else:
            signed = self.mesh.verify(record)
        must(leaf.actor in signed, "the leaf's actor did not sign the record")
        if record.name == "OrgRoot":
            must(record.org == leaf.org and record.id in self.mesh.chain, "not a root of the organisation's chain")
        if record.name == "MeshGenesis":
            roots = [key for root in self.mesh.roots[self.org].values() for key in root.says.keys]
            must(leaf.actor in map(key_id, roots), "the leaf's actor is not a root key of the organisation")
        if record.name == "Revocations":
            taken = [cert.serial for cert in known if cert.root_version <= says.root_version]
            must(leaf.subject in says.nodes or set(taken) & set(says.certs), "the node is not revoked")
        if record.name == "NodeCert":
            must(known or key_id(says.identity) == says.node, "the first certificate has not the node's own key")
            must(says.identity != says.transport, "one key for two purposes")
            known.append(says)
        if record.name == "NodeKeys":
            keys = held(says)
            must(all(one.epoch < other.epoch for one, other in zip(keys, keys[1:])), "epochs that do not grow")
            must(len({key.key for key in keys if x25519_key(key.key)}) == len(keys), "tunnel keys that are none")
        return record

    def compare_keys(self, index, says, keys_seen):
        for key in held(says):
            use = (says.node, key.epoch)
            if any(other != use for other in keys_seen[key.key]):
                self.add("REUSE", f"the public key of epoch {key.epoch} is that of another epoch or node", index)
            if any(other != key.key for other in keys_seen[use]):
                self.add("UNLOGGED", f"epoch {key.epoch} has a second public key", index)
            keys_seen[key.key].add(use)
            keys_seen[use].add(key.key)

    def live(self, index, leaf, says, period):
        """Takes a leaf, with what its record says, into the life of its node."""
        node = self.nodes.setdefault(leaf.subject, SimpleNamespace(
            revoked=False, newest=0, used=set(), use=None, due=0, index=None, announced={}, left={}, certified=None))
        kind, epoch, this = leaf.kind, leaf.epoch, (leaf.kind, leaf.subject, leaf.epoch, leaf.record)
        if node.revoked and kind in (ENROL, RENEW, ANNOUNCE, ACTIVATE):
            self.add("ORPHAN-REVOKE", "behind the revocation of its subject", index)
        if kind == REVOKE:
            self.end_use(node, leaf.time)
            node.revoked = True
        if kind in (ENROL, RENEW) and says:
            was_over = node.certified is not None and node.certified < leaf.time
            if kind == RENEW and was_over and node.use is not None and 10 * node.certified <= node.due:
                self.end_use(node, node.certified, leaf.time, is_over=False)
                node.due = max(node.due, 10 * leaf.time + period + 6000)
            node.certified = says.not_after
        if epoch is None or kind not in OF_EPOCHS or this in self.seen:
            return
        self.seen.add(this)
        if not 1 <= epoch <= node.newest + 1:
            self.add("GAP", f"epoch {epoch} behind {node.newest}", index)
        node.newest = max(node.newest, epoch)
        if kind in (DESTROY, COMPROMISED):
            deadline, activated = node.left.pop(epoch, (None, None))
            if deadline is not None and leaf.time > deadline:
                self.add("UNDESTROYED", f"epoch {epoch} was destroyed late", activated)
            if node.use == epoch:
                self.end_use(node, leaf.time)
        elif kind == ANNOUNCE:
            node.announced.setdefault(epoch, leaf.time)
            node.left.setdefault(epoch, (None, None))
        elif kind == ACTIVATE and node.use != epoch:
            self.activate(node, index, leaf, says, period)

    def activate(self, node, index, leaf, says, period):
        epoch = leaf.epoch
        if any(epoch <= used for used in node.used):
            self.add("REUSE", f"epoch {epoch} is used again", index)
            return
        if node.use is not None and epoch not in node.announced:
            self.add("UNLOGGED", f"epoch {epoch} was not announced", index)
        if says and says.cur.since + 300 < node.announced.get(epoch, 0):
            self.add("LATE-LOG", f"epoch {epoch} since {says.cur.since}, announced {node.announced[epoch]}", index)
        self.end_use(node, leaf.time)
        node.left.setdefault(epoch, (None, None))
        for before, (deadline, _) in node.left.items():
            if before < epoch and deadline is None:
                node.left[before] = (leaf.time + 3600, index)
        node.used.add(epoch)
        node.use, node.index, node.due = epoch, index, 10 * leaf.time + 11 * period + 6000

    def end_use(self, node, time, seen=None, is_over=True):
        """The epoch was in use until `time`, and till `seen` at a node that was no member any more."""
        if node.use is not None and 10 * time > node.due:
            self.add("OVERDUE", f"epoch {node.use} was in use until {time}", node.index)
        elif node.use is not None and 10 * (seen or time) > node.due:
            self.add("DORMANT", Notice(f"epoch {node.use} at a node that was no member"), node.index)
        node.use = None if is_over else node.use

    def witnesses(self, trees, at):
        cosigned, first = defaultdict(dict), {}
        for tree in trees:
            for org, time in tree.cosigned.items():
                cosigned[tree.size][org] = min(time, cosigned[tree.size].get(org, time))
        sizes, newest, read = sorted({tree.size for tree in trees} | {0}), {}, None
        for index in range(len(self.leaves)):
            newest[index] = read = self.times.get(index, read)
        for below, size in reversed(list(zip(sizes, sizes[1:]))):
            first.update({org: min(time, first.get(org, time)) for org, time in cosigned[size].items()})
            signed = newest.get(size - 1)
            for org in self.mesh.members:
                if org != self.org and signed is not None and min(at, first.get(org, at)) > signed + 600:
                    self.add("UNWITNESSED", f"{base32(org)} did not cosign it in time", size)
            for index in range(below, min(size, len(self.leaves))):
                if first and index in self.times and abs(self.times[index] - min(first.values())) > 300:
                    self.add("CLOCK", f"{self.times[index]}, and cosigned at {min(first.values())}", index)


# --- The bundle.

def unpack(archive):
    """Files of a ustar archive in the one form that bundles have."""
    files, at, before = {}, 0, b""
    while any(archive[at:at + 512]):
        header, name, number = archive[at:at + 512], archive[at:at + 100].rstrip(b"\0"), b"0000000\0"
        must(re.fullmatch(rb"[!-~]+", name) and name > before, "names that are not sorted, or not names", Refused)
        must(re.fullmatch(rb"[0-7]{11}\0", header[124:136]), "not an archive", Refused)
        plain = b"".join([name.ljust(100, b"\0"), b"0000644\0", 2 * number, header[124:136], b"0000", number, b" " * 8,
                          b"0", bytes(100), b"ustar\x0000", bytes(247)])
        made = plain[:148] + b"%06o\0 " % sum(plain) + plain[156:]
        must(header == made, "a header that bundles do not have", Refused)
        before, end = name, at + 512 + int(header[124:135], 8)
        at, files[name.decode("ascii")] = end + -end % 512, archive[at + 512:end]
        must(at <= len(archive) and not any(archive[end:at]), "an archive that ends early, or no zeros", Refused)
    must(archive[at:] == bytes(1024), "the archive does not end with two zero blocks", Refused)
    return files


def verify(archive, mesh_id, at=None, period=43200):
    """Everything that was found in a bundle of this mesh."""
    files, findings, logs = unpack(archive), Findings(), {}
    must({"MANIFEST", "about", "chain"} <= set(files), "not a bundle", Refused)
    manifest = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in files if name != "MANIFEST")
    must(files.pop("MANIFEST") == manifest.encode(), "a file is not what the manifest says", Changed)
    about = re.fullmatch(rb"meshd-bundle 1\nmesh ([a-z2-7]{52})\nmade (0|[1-9][0-9]{0,18})\n", files.pop("about"))
    must(about, "a bundle of another format", Refused)
    must(id_of(about[1].decode()) == id_of(mesh_id), "a bundle of another mesh", Refused)
    mesh = Mesh(id_of(mesh_id), files.pop("chain"), findings)
    for name, octets in files.items():
        place, org, file = (name.split("/", 2) + ["", ""])[:3]
        must(place == "log" and id_of(org) in mesh.members, f"bundles have no such file: {name}", Refused)
        logs.setdefault(org, {})[file] = octets
    must(logs, "a bundle without a log", Refused)
    keys_seen = defaultdict(set)
    for org in mesh.members:
        if base32(org) in logs:
            log = Log(mesh, org, logs[base32(org)], findings)
            log.audit(int(about[2]) if at is None else at, period, keys_seen)
        else:
            findings.add("ABSENT", Absent("the log is not in the bundle"), base32(org))
    return findings


def main():
    parser = argparse.ArgumentParser(description="Verifies a bundle of meshd's audit log.", allow_abbrev=False)
    parser.add_argument("bundle")
    parser.add_argument("--mesh", required=True, metavar="MESH_ID", help="the mesh, as its members know it")
    parser.add_argument("--period", type=int, default=43200, metavar="SECONDS", help="how long a key is used; 43200")
    parser.add_argument("--at", type=int, metavar="UNIX", help="time of the audit; that of the bundle")
    parser.add_argument("--json", action="store_true")
    parser.error = lambda words: sys.exit(f"error: {words}")
    asked = parser.parse_args()
    try:
        with open(asked.bundle, "rb") as file:
            findings = verify(file.read(), asked.mesh, asked.at, asked.period)
    except (OSError, Refused) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "code", 1))
    code = findings.verdict()
    verdict = {0: "clean", 2: "findings", 3: "tampering", 4: "incomplete"}[code]
    if asked.json:
        print(json.dumps({"verdict": verdict, "findings": findings}))
    else:
        for one in findings:
            place = [str(one[key]) for key in ("code", "log", "index") if one[key] is not None]
            print(f"{' '.join(place)}: {one['words']}")
        print(f"verdict: {verdict}")
    sys.exit(code)


if __name__ == "__main__":
    main()
