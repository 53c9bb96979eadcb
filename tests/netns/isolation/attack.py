"""What a container with every right over its network tries; prints how its questions ended."""

import json
import socket
import struct
import sys

plan = json.loads(sys.argv[1])
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
own_mac = link.getsockname()[4]
host_mac = bytes.fromhex(plan["host_mac"].replace(":", ""))
all_nodes_mac = bytes.fromhex("333300000001")
everyone_mac = b"\xff" * 6
UDP, ICMP, ICMP6 = 17, 1, 58
QUESTION_TIME_S = 3


def bytes_of(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(source, target, protocol, payload, hops=64):
    """An Ethernet type and an IP packet, with the checksum of what is in it."""
    ends = bytes_of(source) + bytes_of(target)
    at = {UDP: 6, ICMP: 2, ICMP6: 2}.get(protocol)
    if at is not None:
        pseudo = b"" if protocol == ICMP else ends + struct.pack("!II", len(payload), protocol)
        payload = payload[:at] + struct.pack("!H", checksum(pseudo + payload) or 0xFFFF) + payload[at + 2 :]
    if ":" in source:
        return 0x86DD, struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + ends + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, hops, protocol, 0) + ends
    return 0x0800, head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp(source, target, port, words):
    return packet(source, target, UDP, struct.pack("!HHHH", 40000, port, 8 + len(words), 0) + words)


def send(made, mac=host_mac):
    kind, content = made
    link.send(mac + own_mac + struct.pack("!H", kind) + content)


def spoof():
    """Speaks as others: as each container, as the node, as somebody outside; to each container."""
    sent = 0
    for target in plan["targets"]:
        for source in plan["sources"]:
            if (":" in source) == (":" in target) and source != target:
                send(udp(source, target, 9, b"canary-spoofed"))
                sent += 1
    return sent


def lead_astray():
    """Says that it is a router, that it knows a better way, and that it is every other container."""
    advert = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 9000, 0, 0) + b"\x01\x01" + own_mac
    redirect6 = struct.pack("!BBHI", 137, 0, 0, 0) + bytes_of("fe80::bad") + bytes_of(plan["targets6"][0])
    redirect4 = struct.pack("!BBH", 5, 1, 0) + bytes_of(plan["own"][0]) + b"\x45" + b"\0" * 27
    send(packet("fe80::bad", "ff02::1", ICMP6, advert, 255), all_nodes_mac)
    send(packet("fe80::bad", plan["node6"], ICMP6, redirect6, 255))
    send(packet(plan["own"][0], plan["node4"], ICMP, redirect4))
    for target in plan["targets4"]:
        arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + own_mac + bytes_of(target) + host_mac + bytes_of(target)
        for mac in host_mac, everyone_mac:
            send((0x0806, arp), mac)
    for target in plan["targets6"]:
        advert = struct.pack("!BBHI", 136, 0, 0, 0x60000000) + bytes_of(target) + b"\x02\x01" + own_mac
        send(packet("fe80::bad", "ff02::1", ICMP6, advert, 255), all_nodes_mac)
    return 3


def tunnel():
    """Hides a packet to another container in tunnels to the host."""
    kind, inner = udp(plan["sources"][0], plan["targets4"][0], 9, b"canary-tunnelled")
    ethernet = host_mac + own_mac + struct.pack("!H", kind) + inner
    sent = 0
    for node in plan["nodes"]:
        own = plan["own"][":" in node]
        for port in 4789, 8472, 6081, plan["underlay_port"]:
            send(udp(own, node, port, b"\x08\0\0\0\0\0\x01\0" + ethernet))
            sent += 1
        for protocol, words in (4, inner), (41, inner), (47, b"\0\0\x08\0" + inner):
            send(packet(own, node, protocol, words))
            sent += 1
    return sent


def ask(family, target):
    """How an attempt to connect ends."""
    with socket.socket(family, socket.SOCK_STREAM) as stream:
        stream.settimeout(QUESTION_TIME_S)
        try:
            stream.connect(target)
            return "connected"
        except OSError as error:
            return type(error).__name__


def resolve(name, kind):
    """The code of an answer: 5 is a refusal."""
    question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
    query = struct.pack("!HHHHHH", 7, 0, 1, 0, 0, 0) + question + struct.pack("!HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(QUESTION_TIME_S)
        asker.sendto(query, (plan["gateway"], 53))
        return asker.recv(512)[3] & 15


answers = {"spoofed": spoof(), "rogue": lead_astray(), "tunnelled": tunnel()}
answers["sockets"] = [ask(socket.AF_UNIX, path) for path in plan["sockets"]]
answers["control"] = [
    ask(socket.AF_INET6 if ":" in node else socket.AF_INET, (node, plan["control_port"])) for node in plan["nodes"]
]
answers["names"] = [resolve("example.com", 1), resolve("mesh.internal", 252)]
answers["own_name"] = resolve(plan["name"], 1)
for target in plan["targets"]:
    family = 6 if ":" in target else 4
    send(udp(plan["own"][family == 6], target, 9, f"canary-last{family}".encode()))
print(json.dumps(answers))
