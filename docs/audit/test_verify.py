#!/usr/bin/env python3
"""Tests of verify.py: the golden bytes of the format documents, and bundles of its own, clean and spoilt."""

import functools
import hashlib
import os
import pathlib
import re
import unittest

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import verify

DOCS = pathlib.Path(__file__).resolve().parent.parent
AUDIT, RECORDS = ((DOCS / name).read_text("utf-8") for name in ("audit.md", "records.md"))
START, PERIOD = 1_800_000_000, 43200
# A signature that verified once does so again.
verify.verifies = functools.lru_cache(None)(verify.verifies)


def block(text, before):
    """The block of code behind these words of a document."""
    return re.search(r"```text\n(.*?)```", text[text.index(before):], re.DOTALL)[1]


def unhex(words):
    return bytes.fromhex("".join(words.split()))


class Key:
    def __init__(self, seed):
        seed = hashlib.sha256(seed.encode()).digest() if type(seed) is str else seed
        self.private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = verify.key_id(self.public)


def encode(value):
    """CBOR with one encoding for each value."""
    def head(major, number):
        for width, most in ((0, 24), (1, 1 << 8), (2, 1 << 16), (4, 1 << 32), (8, 1 << 64)):
            if number < most:
                low = number if width == 0 else 23 + width.bit_length()
                return bytes([major << 5 | low]) + (number.to_bytes(width, "big") if width else b"")
        raise ValueError(number)
    if value is None or type(value) is bool:
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if type(value) is int:
        return head(0, value)
    if type(value) is list:
        return head(4, len(value)) + b"".join(map(encode, value))
    return head(2, len(value)) + value if type(value) is bytes else head(3, len(value.encode())) + value.encode()


def structure(*fields):
    fields = list(fields)
    while fields[-1] is None:
        fields.pop()
    return fields


def envelope(kind, mesh, payload, keys):
    message = b"meshd-v1/" + verify.KINDS[kind].encode() + b"\0" + (bytes(32) if kind in (1, 3) else mesh) + payload
    signatures = sorted([key.id, key.private.sign(message)] for key in keys)
    return encode([1, kind, payload, signatures]), hashlib.sha256(message).digest()


class Organisation:
    def __init__(self, name, subnet):
        self.name, self.subnet, self.leaves, self.envelopes = name, subnet, [], []
        self.roots = [Key(name + " root 1"), Key(name + " root 2")]
        self.record, self.log, self.witness, self.tls = (Key(name + use) for use in ("record", "log", "witness", "tls"))
        payload = encode([1, 1, name, sorted(key.public for key in self.roots), 2, START + 86400 * 365])
        self.root, self.id = envelope(1, b"", payload, self.roots)
        self.notes, self.last = {}, {}

    def delegation(self, mesh):
        return envelope(2, mesh, encode([
            1, self.id, 1, 1, self.record.public, self.log.public, self.witness.public, self.tls.public, 31, "",
            START - 10, START + 86400 * 90]), self.roots)


class World:
    """A mesh with a log of each organisation, and the bundle of it."""

    def __init__(self, *names, at=START + 3000):
        orgs = [Organisation(name, 1 + at) for at, name in enumerate(names or ("clinic",))]
        self.orgs = sorted(orgs, key=lambda org: org.id)
        members = [[org.id, [bytes([10, org.subnet, 0, 0]), 16], org.subnet] for org in self.orgs]
        agreement = [0, 1, members, START - 10, START + 86400 * 3650, 900, 86400, 172800, 3600, 0]
        roots = [key for org in self.orgs for key in org.roots]
        self.genesis, self.mesh = envelope(3, b"", encode([1, "research", bytes(16), False, agreement, 0]), roots)
        self.made, self.time = at, START
        for org in self.orgs:
            self.leaf(org, 11, org.id, (self.genesis, self.mesh), actor=org.roots[0])
            self.leaf(org, 13, org.id, org.delegation(self.mesh), actor=org.roots[1])

    def leaf(self, of, kind, subject, record=(b"", None), epoch=None, actor=None, receipts=None, fields=()):
        """A leaf; `fields` of it may be others."""
        index = len(of.leaves)
        leaf = dict(version=1, time=self.time, kind=kind, org=of.id, subject=subject, epoch=epoch, record=record[1],
                      actor=(actor or of.record).id, prev=of.last.get(subject), receipts=receipts)
        leaf.update(fields)
        of.leaves.append(encode(structure(*leaf.values())))
        of.envelopes.append(record[0])
        of.last[subject], of.time = index, self.time

    def certificate(self, org, name, kind=1, signer=None, transport=None, of=None, fields=()):
        """Enrols a node, and gives its identity key."""
        identity, transport = Key(name), transport or Key(name + " transport")
        cert = envelope(6, self.mesh, encode([
            1, identity.id, (of or org).id, 1, len(org.leaves), name, identity.public, transport.public,
            bytes([10, org.subnet, 0, 5]), bytes(16), [], [], [], self.time - 10, self.time + 86400 * 7]),
            [signer or (of or org).record])
        self.leaf(org, kind, identity.id, cert, actor=signer or (of or org).record, fields=fields)
        return identity

    def keys(self, org, kind, node, cur, next=None, prev=None, epoch=None, signer=None, tunnel=None, receipts=None,
             fields=()):
        """A leaf about the tunnel keys of a node."""
        def key(epoch):
            if epoch is None:
                return None
            public = verify.sha256(node.id, bytes([epoch]))[:31] + b"\0"
            return [epoch, tunnel if tunnel and epoch == cur else public, self.time]
        record = envelope(7, self.mesh, encode(structure(
            1, node.id, len(org.leaves), self.time, 3, 0, False, key(cur), key(next), key(prev))), [signer or node])
        epoch = epoch or (next if kind == 3 else cur)
        self.leaf(org, kind, node.id, record, epoch=epoch, actor=node, receipts=receipts, fields=fields)

    def node(self, org, name):
        node = self.certificate(org, name)
        self.keys(org, 4, node, 1)
        return node

    def rotate(self, org, node, epoch):
        """A whole rotation to this epoch."""
        self.keys(org, 3, node, epoch - 1, next=epoch)
        self.keys(org, 4, node, epoch, prev=epoch - 1, receipts=[2, bytes(32)])
        self.keys(org, 5, node, epoch, epoch=epoch - 1)

    def revoke(self, org, *nodes):
        ids = sorted(node.id for node in nodes)
        record = envelope(11, self.mesh, encode([1, org.id, 1, 1, self.time, ids, [], []]), [org.record])
        self.leaf(org, 7, nodes[-1].id, record)

    def sign(self, org, witnesses=None, time=None, root=None, size=None, key=None):
        """A signed and cosigned checkpoint of the log as it is."""
        size = len(org.leaves) if size is None else size
        root = root or verify.Tree(org.leaves).root(size)
        name = lambda of: f"meshd/{verify.base32(self.mesh)}/{verify.base32(of.id)}"
        base64 = lambda octets: verify.base64.b64encode(octets).decode()
        text = f"{name(org)}\n{size}\n{base64(root)}\n"
        number = lambda of, kind, key: verify.sha256(f"{name(of)}\n".encode(), bytes([kind]), key.public)[:4]
        key = key or org.log
        lines = [f"\u2014 {name(org)} {base64(number(org, 1, key) + key.private.sign(text.encode()))}\n"]
        for of in [of for of in self.orgs if of is not org] if witnesses is None else witnesses:
            when = org.time + 1 if time is None else time
            signature = of.witness.private.sign(f"cosignature/v1\ntime {when}\n{text}".encode())
            octets = number(of, 4, of.witness) + when.to_bytes(8, "big") + signature
            lines.append(f"\u2014 {name(of)} {base64(octets)}\n")
        return f"{text}\n{''.join(lines)}".encode()

    def files(self):
        chain = [self.genesis] + [org.root for org in self.orgs] + [org.delegation(self.mesh)[0] for org in self.orgs]
        chain += [envelope(12, self.mesh, encode([1, org.id, 1, 1, START, 1]), [org.record])[0] for org in self.orgs]
        files = {"about": f"meshd-bundle 1\nmesh {verify.base32(self.mesh)}\nmade {self.made}\n".encode(),
                 "chain": chained(chain)}
        for org in self.orgs:
            log, tree = f"log/{verify.base32(org.id)}/", verify.Tree(org.leaves)
            files[log + "checkpoint"] = self.sign(org)
            files.update({log + name: note for name, note in org.notes.items()})
            for level in range(8):
                count = len(org.leaves) >> 8 * level
                for first in range(0, count, 256):
                    width = min(256, count - first)
                    name = tile_name(first // 256, width)
                    files[f"{log}tile/{level}/{name}"] = tree.tile(level, first // 256, width)
                    if level == 0:
                        files[f"{log}tile/entries/{name}"] = framed(org.leaves[first:first + width], 2)
                        files[f"{log}record/{name}"] = framed(org.envelopes[first:first + width], 4)
        return files

    def findings(self, files=None, **other):
        return verify.verify(pack(files or self.files()), verify.base32(self.mesh), **other)

    def log(self, at=0):
        return f"log/{verify.base32(self.orgs[at].id)}/"


def framed(pieces, width):
    return b"".join(len(piece).to_bytes(width, "big") + piece for piece in pieces)


def chained(records):
    """A chain of these records, in its order."""
    def place(record):
        try:
            record = verify.opened(record, bytes(32))
            return verify.CHAIN[record.name](record)
        except (verify.Wrong, verify.Absent, KeyError):
            return (9,)
    return framed(sorted(records, key=place), 4)


def tile_name(index, width):
    digits = str(index).zfill(-(-len(str(index)) // 3) * 3)
    groups = [digits[at:at + 3] for at in range(0, len(digits), 3)]
    return "/".join(["x" + group for group in groups[:-1]] + groups[-1:]) + (f".p/{width}" if width < 256 else "")


def pack(files, manifest=True, order=sorted, padding=b"\0", **fields):
    """A bundle of these files; `fields` of its headers may differ, each as its offset and bytes."""
    archive, files = b"", dict(files)
    if manifest:
        files["MANIFEST"] = "".join(
            f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)).encode()
    for name in order(files):
        header = bytearray(512)
        for at, field in ((0, name.encode()), (100, b"0000644\0"), (108, b"0000000\0"), (116, b"0000000\0"),
                          (124, b"%011o\0" % len(files[name])), (136, b"00000000000\0"), (148, b" " * 8), (156, b"0"),
                          (257, b"ustar\x0000"), *fields.values()):
            header[at:at + len(field)] = field
        header[148:156] = b"%06o\0 " % sum(header)
        archive += bytes(header) + files[name] + padding * (-len(files[name]) % 512)
    return archive + bytes(1024)


def codes(findings):
    return sorted({finding["code"] for finding in findings})


class Golden(unittest.TestCase):
    def test_tree(self):
        words = re.search(r"eight leaves \(in hexadecimal\) nothing, (.*?) has the root\n`(\w+)`", AUDIT, re.DOTALL)
        leaves = [b""] + [unhex(leaf) for leaf in re.findall("`(\\w+)`", words[1])]
        tree = verify.Tree(leaves)
        self.assertEqual(tree.root(8).hex(), words[2])
        self.assertEqual(tree.root(6).hex(), re.search("whose root is `(\\w+)`", AUDIT)[1])
        self.assertEqual(tree.root(0), hashlib.sha256().digest())
        path = [tree.levels[0][4], tree.levels[1][3], tree.levels[2][0]]
        self.assertEqual([one.hex() for one in path], block(AUDIT, "Leaf 5 in it").split())
        growth = [tree.levels[1][2], tree.levels[1][3], tree.levels[2][0]]
        self.assertEqual([one.hex() for one in growth], block(AUDIT, "its growth from six").split())

    def test_roots_of_any_size_are_those_of_the_rfc(self):
        def slow(leaves):
            if len(leaves) < 2:
                return hashlib.sha256(b"\0" + leaves[0]).digest() if leaves else hashlib.sha256().digest()
            left = 1 << (len(leaves) - 1).bit_length() - 1
            return hashlib.sha256(b"\1" + slow(leaves[:left]) + slow(leaves[left:])).digest()
        leaves = [bytes([at]) for at in range(70)]
        tree = verify.Tree(leaves)
        for size in range(71):
            self.assertEqual(tree.root(size), slow(leaves[:size]))

    def test_tiles(self):
        self.assertEqual(verify.tile_of("tile/0/x001/x234/067"), ("tile/0", 1234067, 256))
        self.assertEqual(tile_name(1234067, 256), "x001/x234/067")
        words = re.search("A tree of 70,000 leaves has(.*?)\n\n", AUDIT, re.DOTALL)[1]
        for name in re.findall("`(tile[^`]*)`", words):
            series, index, width = verify.tile_of(name)
            self.assertEqual(f"{series}/{tile_name(index, width)}", name)
        for name in ("tile/8/000", "tile/0/x000/001", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/01", "record/000/"):
            with self.assertRaises(verify.Wrong):
                verify.tile_of(name)

    def test_note(self):
        note = block(AUDIT, "The first leaf is proven by").split("\n\n", 1)[1]
        log, witness = Key(b"\1" * 32), Key(b"\2" * 32)
        name = lambda of: f"meshd/{verify.base32(bytes([1]) * 32)}/{verify.base32(bytes([of]) * 32)}"
        number = lambda of, kind, key: verify.sha256(f"{name(of)}\n".encode(), bytes([kind]), key.public)[:4]
        keys = {(name(2), number(2, 1, log)): ("log", 1, log.public),
                (name(3), number(3, 4, witness)): ("witness", 4, witness.public)}
        tree = verify.checkpoint(note.encode(), name(2), keys)
        leaves = [at.to_bytes(8, "big") for at in range(3)]
        self.assertEqual((tree.size, tree.root, tree.cosigned), (3, verify.Tree(leaves).root(3), {"witness": START}))
        for at in range(len(note.encode())):
            spoilt = bytearray(note.encode())
            spoilt[at] ^= 1
            try:  # what is in an unknown name is nobody's signature
                self.assertNotEqual(verify.checkpoint(bytes(spoilt), name(2), keys).cosigned, {"witness": START})
            except verify.Wrong:
                pass
        for spoilt in (note[:-1], note + "\n", note.replace("\n3\n", "\n03\n"), note.replace("\n\n", "\nmore\n\n", 1),
                       note + note.splitlines()[-1] + "\n", note.replace(" ", "  ", 1), note.replace("\n", "\r\n")):
            with self.assertRaises(verify.Wrong):
                verify.checkpoint(spoilt.encode(), name(2), keys)

    def test_leaves(self):
        shortest = unhex(block(AUDIT, "The shortest leaf"))
        leaf = verify.typed("Leaf", verify.decode(shortest))
        self.assertEqual((leaf.time, leaf.kind, leaf.org, leaf.subject, leaf.actor, leaf.prev),
                         (START, verify.ENROL, b"\2" * 32, b"\1" * 32, b"\3" * 32, None))
        longer = unhex(re.findall(r"```text\n(.*?)```", AUDIT[AUDIT.index("The shortest leaf"):], re.DOTALL)[1])
        leaf = verify.typed("Leaf", verify.decode(longer))
        self.assertEqual((leaf.kind, leaf.epoch, leaf.record, leaf.prev, leaf.receipts.count, leaf.receipts.digest),
                         (verify.ACTIVATE, 7, b"\4" * 32, 300, 2, b"\5" * 32))
        for octets in (shortest, longer):
            self.assertEqual(encode(verify.decode(octets)), octets)

    def test_bundle(self):
        about = f"meshd-bundle 1\nmesh {verify.base32(bytes([1]) * 32)}\nmade {START}\n".encode()
        line = block(AUDIT, "the line in `MANIFEST`")
        self.assertEqual(f"{hashlib.sha256(about).hexdigest()}  about\n", line)
        archive = pack({"about": about})
        self.assertEqual(verify.unpack(archive), {"MANIFEST": line.encode(), "about": about})
        checksum = re.search(r"checksum of its header is `(\d+)`", AUDIT)[1].encode()
        self.assertIn(checksum + b"\0 ", [archive[148:156], archive[1024 + 148:1024 + 156]])

    def test_codes_are_those_of_the_document(self):
        # Journals are beyond this verifier.
        findings = AUDIT[AUDIT.index("| code | meaning | severity |"):AUDIT.index("## Keys on the wire")]
        rows = re.findall(r"\n\| `([A-Z-]+)` \|.*\| ([a-z]+)[^|]*\|", findings)
        source = pathlib.Path(verify.__file__).read_text("utf-8")
        mine = set(re.findall(r'(?:add|of)\("([A-Z-]+)"', source))
        self.assertEqual(mine, {code for code, _ in rows})

    def test_kinds_of_leaves(self):
        kinds = dict(re.findall(r"\| (\d+) \| ([a-z-]+) (?=\|)", AUDIT[AUDIT.index("| number | kind |"):]))
        self.assertEqual(len(kinds), verify.NEWEST)
        for number, kind in ((verify.REVOKE, "revoke"), (verify.JOIN, "agreement-join"),
                             (verify.DELEGATE, "steward-delegate"), (verify.DESTROY, "key-destroy"),
                             (verify.ROOT, "root-rotate"),
                             (verify.TOKEN_USE, "token-use"), (verify.ROLLBACK, "state-rollback")):
            self.assertEqual(kinds[str(number)], kind)

    def test_structures_have_the_fields_of_the_documents(self):
        for number, name in verify.KINDS.items():
            if name not in verify.STRUCTURES:
                continue
            section = RECORDS[RECORDS.index(f"\n### {name}, {number}\n"):]
            fields = re.findall(r"\n\| \d+ \| (\w+) \|", section[:section.index("\n\n", section.index("| 0 |"))])
            mine = [field for field, _ in verify.STRUCTURES[name]]
            self.assertEqual(mine, fields, name)
        leaf = re.findall(r"\n\| \d+ \| (\w+) \|", AUDIT[AUDIT.index("## Leaf"):AUDIT.index("| number | kind |")])
        self.assertEqual([field for field, _ in verify.STRUCTURES["Leaf"]], leaf)

    def test_ids(self):
        words = block(RECORDS, "signed by nobody yet")
        payload = unhex(re.search("payload(.*)message", words, re.DOTALL)[1])
        made, number = envelope(65, b"\5" * 32, payload, [])
        record = verify.opened(made, b"\5" * 32)
        self.assertEqual(record.message, unhex(re.search("message(.*)record id", words, re.DOTALL)[1]))
        self.assertEqual(record.id.hex(), re.search(r"record id (\w+)", words)[1])
        self.assertEqual((record.id, record.says.node, record.says.issued_at), (number, b"\1" * 32, START))
        number = re.search("key id of the key `01…01` is `(\\w+)`", RECORDS)[1]
        self.assertEqual(verify.key_id(b"\1" * 32).hex(), number)

    def test_records(self):
        root = verify.typed("OrgRoot", verify.decode(unhex(block(RECORDS, "whether the version that signed"))))
        self.assertEqual((root.name, root.keys), ("acme", [b"\1" * 32, b"\2" * 32]))
        self.assertEqual((root.threshold, root.not_after), (2, 1_800_604_800))
        others = [unhex(block(RECORDS, words))
                  for words in ("A packet belongs to the narrowest", "Names are those of nodes, and unique")]
        others += [unhex(found) for found in re.findall("`(8[2-4][0-9a-f]{4,})`", RECORDS)]
        self.assertEqual(len(others), 5)
        for octets in others:
            self.assertEqual(encode(verify.decode(octets)), octets)


    def test_notes_that_the_log_signed_all_the_same(self):
        log, name, root = Key("log"), "log", "A" * 43 + "="
        place = (name, bytes(4))
        line = lambda octets, name=name: f"\u2014 {name} {verify.base64.b64encode(octets).decode()}\n"
        sign = lambda words: line(bytes(4) + log.private.sign(words.encode()))
        read = lambda note: verify.checkpoint(note.encode(), name, {place: ("log", 1, log.public)})
        words = f"{name}\n3\n{root}\n"
        self.assertEqual(read(f"{words}\n{sign(words)}").size, 3)
        others = lambda count: "".join(line(bytes([at]) * 5, "other") for at in range(count))
        read(f"{words}\n{sign(words)}{others(127)}")
        for words in (f"else\n3\n{root}\n", f"{name}\n03\n{root}\n", f"{name}\n{1 << 63}\n{root}\n",
                      f"{name}\n\n{root}\n", f"{name}\n3\n{root}\nmore\n", f"{name}\n3\n{root[4:]}\n", f"{name}\n3\n", f"{name}\n-3\n{root}\n",
                      f"{name}\n3\n{root}\n\n", f"{name}\n3\n{root[:-2]}B=\n"):
            with self.assertRaises(verify.Wrong, msg=words):
                read(f"{words}\n{sign(words)}")
        words = f"{name}\n3\n{root}\n"
        good = f"{words}\n{sign(words)}"
        more = [others(128), line(bytes(4), "other")]
        more += [line(bytes(5), signer) for signer in ("o+r", "", "o" * 32768, "o\x85", "o\u2003", "o\x7f")]
        alone = [f"{words}\n", words, f"{words}\n{others(1)}", good.replace("\u2014", "-")]
        alone += [f"{words}\n{line(bytes(4) + log.private.sign(words.encode()) + b'a')}"]
        for note in [good + one for one in more] + alone:
            with self.assertRaises(verify.Wrong, msg=note):
                read(note)
        with self.assertRaises(verify.Wrong):
            verify.checkpoint(good.encode() + b"\xff\n", name, {})

    def test_cosignatures(self):
        log, witness, words = Key("log"), Key("witness"), f"log\n3\n{'A' * 43}=\n"
        keys = {("log", bytes(4)): ("log", 1, log.public), ("witness", bytes(4)): ("witness", 4, witness.public)}
        line = lambda name, octets: f"\u2014 {name} {verify.base64.b64encode(bytes(4) + octets).decode()}\n"
        for time, more, holds in ((5, b"", True), ((1 << 63) - 1, b"", True), (1 << 63, b"", False), (5, b"a", False)):
            cosigned = witness.private.sign(f"cosignature/v1\ntime {time}\n{words}".encode())
            note = f"{words}\n" + line("log", log.private.sign(words.encode()))
            note += line("witness", time.to_bytes(8, "big") + cosigned + more)
            if holds:
                self.assertEqual(verify.checkpoint(note.encode(), "log", keys).cosigned, {"witness": time})
            else:
                with self.assertRaises(verify.Wrong):
                    verify.checkpoint(note.encode(), "log", keys)


class Strict(unittest.TestCase):
    def test_encoding(self):
        for octets in ("", "8201", "1800", "1817", "190001", "1900ff", "1a0000ffff", "1b00000000ffffffff", "20",
                       "3903e7", "9f01ff", "5f41004100ff", "a0", "c001", "d818", "f0", "f7", "f820", "f93c00", "fa00000000", "ff",
                       "61ff", "62c080", "63eda080", "0101", "81" * 9 + "01", "991001", "1c", "1f", "44010203"):
            with self.assertRaises(verify.Wrong, msg=octets):
                verify.decode(bytes.fromhex(octets))
        for octets in ("00", "17", "1818", "1901" + "00", "81" * 8 + "01", "f4", "60", "80"):
            verify.decode(bytes.fromhex(octets))
        big = b"\x99\x10\x01" + b"\0" * 4097
        for octets in (big, b"\x19\x01", b"\x42\0", b"\x5a\xff\xff\xff\xff"):
            with self.assertRaises(verify.Wrong):
                verify.decode(octets)

    def test_types(self):
        leave, key = [1, bytes(32), 5], [1, b"\x09" + bytes(31), 5]
        leaf = [1, 5, 1, bytes(32), bytes(32), None, None, bytes(32)]
        for kind, value in (("NodeLeave", leave), ("Leaf", leaf), ("u8", 255), ("b4", bytes(4)), ("address", bytes(16)),
                            ("text", ""), ("bool", False), ("bytes", b""), ("<b4>", [bytes(4), b"abcd"]), ("[u8]", [2, 1]),
                            ("u8?", None), ("<Label>", [["a", "z"], ["b", "a"]]), ("EpochKey", key)):
            verify.typed(kind, value)
        for kind, value in (("NodeLeave", leave + [None]), ("NodeLeave", leave[:2] + [True]), ("NodeLeave", leave + [1]),
                            ("NodeLeave", leave[:2]), ("NodeLeave", []), ("NodeLeave", 5), ("NodeLeave", [None]),
                            ("NodeLeave", ["1"]), ("Leaf", leaf + [None]), ("u8", 256), ("u8", True), ("u8", None),
                            ("u64", "1"), ("b4", bytes(5)), ("b4", "abcd"), ("address", bytes(5)), ("address", "abcd"),
                            ("text", b""), ("bool", 0), ("bytes", ""), ("<b4>", [b"abcd", bytes(4)]),
                            ("<b4>", [bytes(4), bytes(4)]), ("[u8]", 1), ("[u8]", [None]), ("[u8]", "ab"),
                            ("<Label>", [["a", "a"], ["a", "b"]]), ("<Label>", {})):
            with self.assertRaises(verify.Wrong, msg=(kind, value)):
                verify.typed(kind, value)
        with self.assertRaises(verify.Absent):
            verify.typed("NodeLeave", [2])

    def test_texts_of_ids_and_signatures(self):
        self.assertEqual(verify.id_of("a" * 52), bytes(32))
        for word in ("a" * 51, "a" * 53, "a" * 51 + "b", "A" * 52, "1" * 52, "", "a" * 52 + "\n"):
            with self.assertRaises(verify.Refused):
                verify.id_of(word)
        self.assertEqual(verify.base64_of("AAA="), bytes(2))
        for word in ("AAA", "AAB=", "A-A=", "AAA==", "AA A=", "AAA=\n"):
            with self.assertRaises(verify.Wrong):
                verify.base64_of(word)

    def test_envelopes(self):
        mesh, key, says = bytes(32), Key("somebody"), encode([1, bytes(32), 5])
        octets, _ = envelope(65, mesh, says, [key])
        good = verify.opened(octets, mesh)
        self.assertEqual(verify.signers(good, [key.public, Key("else").public]), {key.id})
        fields = verify.decode(octets)
        many = [[bytes([at]) * 32, bytes(64)] for at in range(65)]
        for spoilt in ([2] + fields[1:], [1, 65, b"", []], [1, 65, says + b"\0", []], [1, 65, says, many[:17]],
                       [1, 65, says, many[1::-1]], [1, 65, says, many[:1] * 2], [1, 3, says, many],
                       [1, 65, bytes(65536), []]):
            with self.assertRaises(verify.Wrong, msg=spoilt[:2]):
                verify.opened(encode(spoilt), mesh)
        verify.opened(encode([1, 65, says, many[:16]]), mesh)
        long = [1, 1, encode([1, 1, "x" * 66000, [mesh], 1, 5]), []]
        with self.assertRaises(verify.Wrong):
            verify.opened(encode(long), mesh)
        for kind in (0, 15, 67, 999):
            with self.assertRaises(verify.Absent):
                verify.opened(encode([1, kind] + fields[2:]), mesh)
        for kind, name in re.findall(r"\n\| (\d+) \| (\w+) \|", RECORDS[RECORDS.index("## Kinds"):RECORDS.index("A number is")]):
            self.assertEqual(verify.KINDS[int(kind)], name)
        for record, keys in ((verify.opened(octets, bytes([1]) * 32), [key.public]), (good, [])):
            with self.assertRaises(verify.Wrong):
                verify.signers(record, keys)

    def test_signatures(self):
        key, message = Key("somebody"), b"words"
        good = key.private.sign(message)
        self.assertTrue(verify.verifies(key.public, good, message))
        above = good[:32] + (int.from_bytes(good[32:], "little") + verify.ORDER).to_bytes(32, "little")
        self.assertFalse(verify.verifies(key.public, above, message))
        small = ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f",
                 "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
                 "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"]
        for point in map(bytes.fromhex, small):
            for sign in (0, 128):
                point = point[:31] + bytes([point[31] & 127 | sign])
                self.assertFalse(verify.ed25519_point(point))
                # With the neutral element as key and R any message has s = 0.
                self.assertFalse(verify.verifies(point, point + bytes(32), message))
        self.assertFalse(verify.ed25519_point((verify.P + 3).to_bytes(32, "little")))

    def test_tunnel_keys(self):
        small = [0, 1, 325606250916557431795983626356110631294008115727848805560023387167927233504,
                 39382357235489614581723060781553021112529911719440698176882885853963445705823, verify.P - 1]
        for u in small + [verify.P, verify.P + 1, 2**255 + 9]:
            self.assertFalse(verify.x25519_key(u.to_bytes(32, "little")), u)
        self.assertTrue(verify.x25519_key((9).to_bytes(32, "little")))


class Audits(unittest.TestCase):
    def expect(self, world, expected, verdict, files=None, **other):
        found = world.findings(files, **other)
        self.assertEqual((codes(found), found.verdict()), (expected, verdict), found)
        return found

    def test_a_clean_log_has_no_findings(self):
        world = World("clinic", "lab")
        for org in world.orgs:
            node = world.node(org, org.name + "-a")
            world.rotate(org, node, 2)
            world.certificate(org, org.name + "-a", kind=2)
            world.leaf(org, 16, bytes(32))
            world.leaf(org, 17, bytes(32))
            world.revoke(org, node)
        self.expect(world, [], 0)

    def test_more_than_a_tile(self):
        world = World()
        for at in range(260):
            world.certificate(world.orgs[0], f"node-{at}")
        files = world.files()
        self.expect(world, [], 0)
        del files[world.log() + "tile/1/000.p/1"]
        self.expect(world, ["TILE"], 4, files)
        files = world.files()
        del files[world.log() + "tile/entries/000"]
        self.expect(world, ["MISSING", "TILE"], 4, files)

    def test_epochs_that_were_aborted(self):
        world = World()
        org = world.orgs[0]
        node = world.node(org, "a")
        world.keys(org, 3, node, 1, next=2)
        world.keys(org, 5, node, 1, epoch=2)
        world.keys(org, 3, node, 1, next=3)
        world.keys(org, 4, node, 3, prev=1)
        world.keys(org, 5, node, 3, epoch=1)
        # Lost before anybody heard of it: only its end is told.
        world.keys(org, 5, node, 3, epoch=4)
        world.keys(org, 3, node, 3, next=5)
        self.expect(world, [], 0, at=START + 4000)
        world.keys(org, 5, node, 3, epoch=8)
        world.keys(org, 3, node, 3, next=9)
        self.expect(world, ["GAP"], 2, at=START + 4000)

    def test_a_leaf_that_was_tried_again(self):
        world = World()
        org = world.orgs[0]
        node = world.node(org, "a")
        world.rotate(org, node, 2)
        number = verify.typed("Leaf", verify.decode(org.leaves[-2])).record
        world.leaf(org, 4, node.id, (org.envelopes[-2], number), epoch=2, actor=node)
        self.expect(world, [], 0)
        world.keys(org, 4, node, 2)
        self.expect(world, [], 0)
        world.keys(org, 4, node, 1)
        self.expect(world, ["REUSE"], 2)

    def test_gap(self):
        world = World()
        node = world.node(world.orgs[0], "a")
        world.keys(world.orgs[0], 3, node, 1, next=3)
        self.expect(world, ["GAP"], 2)
        world = World()
        world.keys(world.orgs[0], 4, world.certificate(world.orgs[0], "a"), 2)
        self.expect(world, ["GAP"], 2)

    def test_reuse(self):
        world = World("clinic", "lab")
        tunnel = b"\7" * 31 + b"\0"
        for org in world.orgs:
            world.keys(org, 4, world.certificate(org, org.name), 1, tunnel=tunnel)
        self.expect(world, ["REUSE"], 2)
        world = World()
        node = world.certificate(world.orgs[0], "a")
        world.keys(world.orgs[0], 4, node, 1, tunnel=tunnel)
        world.keys(world.orgs[0], 5, node, 2, epoch=1)
        world.keys(world.orgs[0], 4, node, 2, tunnel=tunnel)
        world.keys(world.orgs[0], 5, node, 2, epoch=1, tunnel=tunnel)
        self.expect(world, ["REUSE"], 2)

    def test_overdue(self):
        limit = PERIOD * 11 // 10 + 600
        world = World()
        node = world.node(world.orgs[0], "a")
        self.expect(world, [], 0, at=START + limit)
        self.expect(world, ["OVERDUE"], 2, at=START + limit + 1)
        self.expect(world, [], 0, at=START + limit + 1, period=PERIOD + 1)
        world.time += limit
        world.revoke(world.orgs[0], node)
        self.expect(world, [], 0, at=START + 2 * limit)
        world = World()
        node = world.node(world.orgs[0], "a")
        world.time += limit + 1
        world.rotate(world.orgs[0], node, 2)
        self.expect(world, ["OVERDUE"], 2, at=world.time)

    def test_undestroyed(self):
        world = World()
        node = world.node(world.orgs[0], "a")
        world.keys(world.orgs[0], 3, node, 1, next=2)
        world.keys(world.orgs[0], 4, node, 2)
        self.expect(world, [], 0, at=START + 3600)
        self.expect(world, ["UNDESTROYED"], 2, at=START + 3601)
        world.time += 3601
        world.keys(world.orgs[0], 5, node, 2, epoch=1)
        self.expect(world, ["UNDESTROYED"], 2, at=world.time)

    def test_keys_that_were_not_announced(self):
        for spoil, expected in ((lambda: world.keys(org, 4, node, 2, tunnel=b"\7" * 31 + b"\0"), ["UNLOGGED"]),
                                (lambda: world.keys(org, 4, node, 3), ["GAP", "UNLOGGED"]),
                                (lambda: world.keys(org, 5, node, 2, epoch=1) or world.keys(org, 4, node, 2), []),
                                (lambda: world.keys(org, 6, node, 1) or world.keys(org, 4, node, 2), [])):
            world = World()
            org = world.orgs[0]
            node = world.node(org, "a")
            if expected == ["UNLOGGED"]:
                world.keys(org, 3, node, 1, next=2)
            spoil()
            self.expect(world, expected, 2 if expected else 0, at=START + 3600)
        for early, expected in ((300, []), (301, ["LATE-LOG"])):
            world = World()
            node = world.node(world.orgs[0], "a")
            world.keys(world.orgs[0], 3, node, 1, next=2)
            world.time -= early
            world.keys(world.orgs[0], 4, node, 2)
            self.expect(world, expected, 2 if expected else 0, at=START)

    def test_nodes_that_were_no_members_for_a_while(self):
        week, late = 86400 * 7, PERIOD * 11 // 10 + 600

        def rotated():
            world = World()
            node = world.node(world.orgs[0], "a")
            world.time += week - 1000
            world.keys(world.orgs[0], 5, node, 2, epoch=1)
            world.keys(world.orgs[0], 4, node, 2)
            return world, node
        world, node = rotated()
        found = self.expect(world, ["OVERDUE"], 2, at=START + week)
        self.assertEqual([one["index"] for one in found], [3])
        world, node = World(), None
        node = world.certificate(world.orgs[0], "a")
        world.time += week - late
        world.keys(world.orgs[0], 4, node, 1)
        self.expect(world, [], 0, at=START + week)
        self.expect(world, ["DORMANT"], 0, at=START + week + 86400)
        world.time = START + week + 86400
        world.certificate(world.orgs[0], "a", kind=2)
        self.expect(world, ["DORMANT"], 0, at=world.time + PERIOD // 10 + 600)
        self.expect(world, ["DORMANT", "OVERDUE"], 2, at=world.time + PERIOD // 10 + 601)

    def test_signatures_of_strangers(self):
        world = World("clinic", "lab")
        world.orgs[1].witness = Key("other")
        files = world.files()
        world.orgs[1].witness = Key("labwitness" if world.orgs[1].name == "lab" else "clinicwitness")
        good = world.files()
        name = world.log() + "checkpoint"
        self.expect(world, ["SIGNER"], 4, {**good, name: files[name]}, at=START + 600)

    def test_serials_that_are_taken_back(self):
        for serial, expected in ((2, []), (7, ["RECORD"])):
            world = World()
            org = world.orgs[0]
            node = world.node(org, "a")
            taken = encode([1, org.id, 1, 1, world.time, [], [serial], []])
            world.leaf(org, 7, node.id, envelope(11, world.mesh, taken, [org.record]))
            self.expect(world, expected, 3 if expected else 0)

    def test_orphan_revoke(self):
        for spoil in (lambda world, org, node: world.rotate(org, node, 2),
                      lambda world, org, node: world.certificate(org, "a", kind=2)):
            world = World()
            node = world.node(world.orgs[0], "a")
            world.revoke(world.orgs[0], node)
            spoil(world, world.orgs[0], node)
            self.expect(world, ["ORPHAN-REVOKE"], 2)

    def test_a_node_that_left_by_itself(self):
        world = World()
        node = world.node(world.orgs[0], "a")
        leave = envelope(65, world.mesh, encode([1, node.id, world.time]), [node])
        world.leaf(world.orgs[0], 7, node.id, leave, actor=node)
        self.expect(world, [], 0)

    def test_clock_and_witnesses(self):
        world = World("clinic", "lab")
        org = world.orgs[0]
        name = world.log() + "checkpoint"
        for time, expected in ((START + 300, []), (START - 300, []), (START + 301, ["CLOCK"]), (START - 301, ["CLOCK"]),
                               (START + 600, ["CLOCK"]), (START + 601, ["CLOCK", "UNWITNESSED"])):
            self.expect(world, expected, 2 if expected else 0, {**world.files(), name: world.sign(org, time=time)})
        files = {**world.files(), name: world.sign(org, witnesses=[])}
        self.expect(world, [], 0, files, at=START + 600)
        self.expect(world, ["UNWITNESSED"], 2, files, at=START + 601)
        # A later tree that is cosigned serves for those before.
        org.notes["checkpoints/2"] = world.sign(org, witnesses=[])
        world.leaf(org, 16, bytes(32))
        self.expect(world, [], 0)

    def test_chain_of_a_subject(self):
        for prev in (None, 0, 7):
            world = World()
            world.leaf(world.orgs[0], 16, world.orgs[0].id, fields={"prev": prev})
            self.expect(world, ["CHAIN"], 2)

    def test_unreadable(self):
        for leaf in (encode([2, 5]), b"", b"\xff", bytes(2000)):
            world = World()
            world.orgs[0].leaves.append(leaf)
            world.orgs[0].envelopes.append(b"")
            self.expect(world, ["UNREADABLE"], 4)
        for kind, other in ((22, {}), (0, {}), (16, {"org": bytes(32)})):
            world = World()
            world.leaf(world.orgs[0], kind, bytes(32), fields=other)
            self.expect(world, ["UNREADABLE"], 4)

    def test_fork_and_root(self):
        world = World("clinic", "lab")
        world.orgs[0].notes["checkpoints/2"] = world.sign(world.orgs[0], root=bytes(32))
        self.expect(world, ["FORK"], 3)
        world.leaf(world.orgs[0], 16, bytes(32))
        self.expect(world, ["ROOT"], 3)

    def test_missing(self):
        world = World()
        files, log = world.files(), world.log()
        for missing, expected in (("tile/entries/000.p/2", ["MISSING", "TILE"]), ("tile/0/000.p/2", ["TILE"]),
                                  ("record/000.p/2", ["TILE"]), ("checkpoint", ["CHECKPOINT"])):
            self.expect(world, expected, 4, {name: octets for name, octets in files.items() if name != log + missing})
        world = World("clinic", "lab")
        files = {name: octets for name, octets in world.files().items() if not name.startswith(world.log())}
        self.expect(world, ["ABSENT"], 4, files)
        files = {name: octets for name, octets in files.items() if not name.startswith("log/")}
        with self.assertRaises(verify.Refused):
            world.findings(files)

    def test_record(self):
        world = World()
        org = world.orgs[0]
        node = world.node(org, "a")
        files = world.files()
        beside = world.log() + "record/" + tile_name(0, 4)
        self.expect(world, ["RECORD"], 4, {**files, beside: framed(org.envelopes[:3] + [b""], 4)})
        self.expect(world, ["RECORD"], 3, {**files, beside: framed(org.envelopes[:3] + org.envelopes[:1], 4)})
        self.expect(world, ["TILE"], 3, {**files, beside: framed(org.envelopes[:3], 4)})
        for spoil in (lambda: world.keys(org, 4, node, 2, epoch=3),
                      lambda: world.keys(org, 4, node, 2, signer=org.record),
                      lambda: world.keys(org, 5, node, 2),
                      lambda: world.certificate(org, "b", signer=Key("nobody")),
                      lambda: world.certificate(org, "b", kind=7),
                      lambda: world.keys(org, 4, node, 2, signer=Key("else")),
                      lambda: world.keys(org, 5, node, 3, prev=2, epoch=2),
                      lambda: world.keys(org, 3, node, 2, next=2),
                      lambda: world.keys(org, 3, node, 3, next=2),
                      lambda: world.keys(org, 4, node, 2, tunnel=bytes(32)),
                      lambda: world.keys(org, 4, node, 2, fields={"subject": world.certificate(org, "b").id}),
                      lambda: world.keys(org, 4, node, 2, fields={"actor": org.record.id}),
                      lambda: world.keys(org, 6, node, 2, fields={"epoch": None}),
                      lambda: world.keys(org, 4, node, 2, fields={"kind": 1}),
                      lambda: world.certificate(org, "b", kind=3),
                      lambda: world.certificate(org, "b", fields={"epoch": 1}),
                      lambda: world.certificate(org, "b", fields={"subject": node.id, "prev": 3}),
                      lambda: world.certificate(org, "b", transport=Key("b")),
                      lambda: world.certificate(org, "b", of=world.orgs[1]),
                      lambda: world.leaf(org, 16, bytes(32), (b"\0", None)),
                      lambda: world.leaf(org, 13, org.id, world.orgs[1].delegation(world.mesh),
                                         actor=world.orgs[1].roots[0]),
                      lambda: world.leaf(org, 11, bytes(32), (world.genesis, world.mesh), actor=org.roots[0]),
                      lambda: world.leaf(org, 16, bytes(32), actor=node)):
            world = World("clinic", "lab")
            org = world.orgs[0]
            node = world.node(org, "a")
            spoil()
            self.assertIn("RECORD", codes(world.findings()))
            self.assertEqual(world.findings().verdict(), 3)
        for spoil in (lambda: world.leaf(org, 1, bytes(32)),
                      lambda: world.keys(org, 4, Key("b"), 1),
                      lambda: world.keys(org, 4, Key("b"), 2)):
            world = World("clinic", "lab")
            org = world.orgs[0]
            spoil()
            self.assertEqual(world.findings().verdict(), 4)
            self.assertIn("RECORD", codes(world.findings()))
        # Of other kinds of leaves nobody knows more than that the record is the one they name.
        world = World()
        policy = envelope(10, world.mesh, encode([1]), [])
        world.leaf(world.orgs[0], 10, bytes(32), policy)
        self.expect(world, [], 0)
        world.leaf(world.orgs[0], 10, bytes(32), (policy[0], bytes(32)))
        self.expect(world, ["RECORD"], 3)

    def test_a_record_of_another_leaf(self):
        world = World()
        org = world.orgs[0]
        world.certificate(org, "a")
        world.certificate(org, "a", kind=2)
        org.envelopes[-1] = org.envelopes[-2]
        self.expect(world, ["RECORD"], 3)

    def test_tiles(self):
        world = World()
        org, log = world.orgs[0], world.log()
        world.node(org, "a")
        files, tree = world.files(), verify.Tree(org.leaves)
        tile, entries, records = (f"{log}{series}/000.p/" for series in ("tile/0", "tile/entries", "record"))
        for more in ({tile + "3": tree.tile(0, 0, 3)}, {entries + "3": framed(org.leaves[:3], 2)}, {tile + "4": bytes(128)},
                     {tile + "4": files[tile + "4"][:-1]}, {tile + "4": files[tile + "4"] + b"a"},
                     {tile + "5": files[tile + "4"] + bytes(32)}, {f"{log}tile/1/000.p/1": bytes(32)},
                     {f"{log}tile/entries/001.p/1": bytes(2)}, {records + "4": files[records + "4"] + b"\0"},
                     {f"{log}record/001": b""}, {log + "more": b""}, {log + "../x": b""}):
            self.expect(world, ["TILE"], 3, {**files, **more})
        for more in (b"\0", b"\0\0"):
            self.expect(world, ["MISSING", "TILE"], 3, {**files, entries + "4": files[entries + "4"] + more})

    def test_notes(self):
        world = World("clinic", "lab")
        org, name = world.orgs[0], world.log() + "checkpoint"
        files = world.files()
        self.expect(world, ["CHECKPOINT"], 3, {**files, name: world.sign(org, key=Key("nobody"))})
        self.expect(world, ["CHECKPOINT"], 3, {**files, name: world.sign(world.orgs[1])})
        self.expect(world, ["CHECKPOINT"], 3, {**files, world.log() + "checkpoints/1": world.sign(org)})

    def test_chain(self):
        world = World("clinic", "lab")
        files, org = world.files(), world.orgs[0]
        delegations = [one.delegation(world.mesh)[0] for one in world.orgs]
        roots = [one.root for one in world.orgs]
        for chain in ([], roots + delegations):
            with self.assertRaises(verify.Refused):
                world.findings({**files, "chain": chained(chain)})
        for chain in (roots + delegations[:1], roots[:1] + delegations):
            found = world.findings({**files, "chain": chained([world.genesis] + chain)})
            self.assertIn("CHECKPOINT", codes(found))
            self.assertEqual(found.verdict(), 3)
        self.expect(world, ["AUTHORITY"], 3, {**files, "chain": chained([world.genesis] + roots + delegations + [b"\0"])})
        more = chained([world.genesis] + roots + delegations + [encode([1, 99, b"", []])])
        self.expect(world, ["AUTHORITY"], 4, {**files, "chain": more})
        month, lab, stranger = START + 86400 * 30, world.orgs[1], Organisation("stranger", 9)

        def state(keys):
            return envelope(12, world.mesh, encode([1, org.id, 1, 1, START, 1]), keys)[0]

        def steward(keys, of=org, version=1, end=month):
            public = [key.public for key in (org.record, org.log, org.witness, org.tls)]
            return envelope(2, world.mesh, encode([1, of.id, version, 2, *public, 31, "", START, end]), keys)[0]

        def root(version, threshold, end, prev=None):
            public = sorted(key.public for key in org.roots)
            return envelope(1, b"", encode(structure(1, version, "x", public, threshold, end, prev)), org.roots)[0]

        certificate = envelope(6, world.mesh, encode([
            1, bytes(32), org.id, 1, 1, "a", bytes(32), b"\1" * 32, bytes(4), bytes(16), [], [], [], START, month]),
            [org.record])[0]
        first = [world.genesis] + roots + delegations
        good = [state([org.record]), steward(org.roots), org.root]
        self.expect(world, [], 0, {**files, "chain": chained(first + good)})
        wrong = [[state(keys)] for keys in ([org.record, lab.record], [lab.record], [], org.roots)]
        wrong += [[steward(keys)] for keys in (org.roots[:1], org.roots + lab.roots[:1], lab.roots)]
        wrong += [[steward(org.roots, of=stranger)], [steward(org.roots, end=START - 1)],
                  [steward(org.roots, end=START + 86400 * 90 + 301)], [certificate], [stranger.root]]
        wrong += [[root(*fields)] for fields in ((2, 0, 5, org.id), (2, 3, 5, org.id), (2, 2, 5), (3, 2, 5, org.id),
                                                 (65, 2, 5, org.id), (0, 2, 5, org.id))]
        wrong += [[root(2, 2, 5, org.id), root(2, 2, 6, org.id)]]
        for bad in wrong:
            self.expect(world, ["AUTHORITY"], 3, {**files, "chain": chained(first + bad)})
        for bad in (root(2, 2, 5, bytes(32)), steward(org.roots, version=2)):
            self.expect(world, ["AUTHORITY"], 4, {**files, "chain": chained(first + [bad])})
        other = World("clinic", "school").genesis
        for chain in (files["chain"] + b"\0", files["chain"] + b"\0\0\0\1", chained([other] + first),
                      chained(first + [world.genesis])):
            with self.assertRaises(verify.Refused) as refused:
                world.findings({**files, "chain": chain})
            self.assertEqual(refused.exception.code, 1)
        for chain in (framed([other], 4), framed(first[::-1], 4), framed(first + [org.root], 4)):
            with self.assertRaises(verify.Changed):
                world.findings({**files, "chain": chain})
        few = envelope(3, b"", verify.typed("Envelope", verify.decode(world.genesis)).payload, org.roots)[0]
        self.expect(world, ["AUTHORITY"], 4, {**files, "chain": chained([few] + roots + delegations)})
        found = world.findings({**files, "chain": chained([world.genesis] + roots)})
        self.assertEqual(found.verdict(), 3)

    def test_a_root_that_follows(self):
        world = World()
        org, new = world.orgs[0], [Key("new 1"), Key("new 2")]
        chain = [world.genesis, org.root, org.delegation(world.mesh)[0]]
        payload = encode([1, 2, org.name, sorted(key.public for key in new), 1, START + 86400 * 365, org.id])
        for keys, verdict in ((new + org.roots, 0), (new[:1] + org.roots, 0), (org.roots, 3), (new, 3),
                              (new + org.roots[:1], 3)):
            files = {**world.files(), "chain": chained(chain + [envelope(1, b"", payload, keys)[0]])}
            self.assertEqual(world.findings(files).verdict(), verdict)

    def test_bundles_that_are_refused(self):
        world = World()
        files, mesh = world.files(), verify.base32(world.mesh)
        verify.verify(pack(files), mesh)
        about = files["about"]
        for spoilt in (pack(files)[:-512], pack(files) + bytes(512), pack(files, manifest=False), b"", bytes(1024),
                       pack({**files, "MANIFEST": b""}, manifest=False), pack({**files, "more": b""}),
                       pack({**files, "log/aa/checkpoint": b""}),
                       pack({**files, f"log/{mesh}/checkpoint": b""}),
                       pack({**files, "about": about.replace(b"1", b"2", 1)}), pack({**files, "about": about[:-1]})):
            with self.assertRaises(verify.Refused):
                verify.verify(spoilt, mesh)
        for field in ((0, b"/log"), (100, b"0000755"), (100, b"000644\0"), (108, b"0000001"), (116, b"0000001"),
                      (136, b"00000000001"), (156, b"5"), (156, b"\0"), (157, b"link"), (257, b"ustar  \0"), (265, b"root"),
                      (297, b"root"), (329, b"0000000\0"), (345, b"log"), (500, b"1"), (124, b"77777777777"),
                      (124, b"0000000001 ")):
            with self.assertRaises(verify.Refused, msg=field):
                verify.verify(pack(files, field=field), mesh)
        for octets in (pack(files, padding=b"a"), pack(files, order=lambda names: sorted(names)[::-1]),
                       pack(files)[:700], pack({name: octets for name, octets in files.items() if name != "chain"})):
            with self.assertRaises(verify.Refused):
                verify.verify(octets, mesh)
        for other in (verify.base32(bytes(32)), mesh.upper(), mesh[:-1] + "b", ""):
            with self.assertRaises(verify.Refused):
                verify.verify(pack(files), other)


class Flips(unittest.TestCase):
    """Any bit of a small bundle turned."""

    def setUp(self):
        self.world = World("clinic", "lab")
        org = self.world.orgs[0]
        self.world.rotate(org, self.world.node(org, "a"), 2)
        org.notes[f"checkpoints/{len(org.leaves)}"] = self.world.sign(org)
        # From here on only that note tells that the first leaves were seen in time.
        self.world.time += 650
        self.world.leaf(org, 16, bytes(32))
        self.mesh, self.files = verify.base32(self.world.mesh), self.world.files()
        self.assertEqual(self.world.findings(self.files), [])

    def turned(self, octets):
        bits = range(8 * len(octets)) if os.environ.get("MESHD_ALL_BITS") else range(0, 8 * len(octets), 23)
        for at, bit in (divmod(bit, 8) for bit in bits):
            yield at, octets[:at] + bytes([octets[at] ^ 1 << bit]) + octets[at + 1:]

    def test_in_the_archive(self):
        for at, archive in self.turned(pack(self.files)):
            with self.assertRaises(verify.Refused, msg=at):
                verify.verify(archive, self.mesh)

    def test_in_a_file_whose_digest_is_made_again(self):
        for name, octets in self.files.items():
            for at, spoilt in self.turned(octets):
                if name == "about" and at > octets.index(b"made"):
                    continue
                try:
                    found = self.world.findings({**self.files, name: spoilt})
                except verify.Refused:
                    continue
                self.assertIn(found.verdict(), (2, 3, 4), (name, at))


if __name__ == "__main__":
    unittest.main()
