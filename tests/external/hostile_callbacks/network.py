"""Runs a program in a network of its own, where every address is this machine's, and records whom the program dials.

    unshare --net --mount python3 network.py DATA CERTIFICATE KEY RECORD PROGRAM ARGUMENT…

DATA is tests/data/hostile_callbacks.json: its zone is what the network's DNS server answers. RECORD receives the destination
of each SYN, one `address port` per line. Redirects are served on port 8443 of one address. Nothing leaves the network: its only
interface is the loopback one.
"""

import ctypes
import ipaddress
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading

REDIRECTS = ("93.184.216.35", 8443)
A, CNAME, AAAA = 1, 5, 28
NO_ERROR, REFUSED = 0, 5
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
ALL_PROTOCOLS = 3
TCP, SYN, ACK = 6, 0x02, 0x10
# Not in Python's `socket` module.
IP_FREEBIND = 15


def prepare():
    for command in (
        "ip link set lo up",
        "ip route add local 0.0.0.0/0 dev lo",
        "ip -6 route add local ::/0 dev lo",
    ):
        subprocess.run(command.split(), check=True)
    with tempfile.NamedTemporaryFile("w", delete=False) as resolver:
        resolver.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    os.chmod(resolver.name, 0o644)
    subprocess.run(["mount", "--bind", resolver.name, "/etc/resolv.conf"], check=True)
    os.unlink(resolver.name)


def destination(packet, ethertype):
    """Returns the address and port that a packet opens a connection to, or None."""
    if ethertype == ETHERTYPE_IPV4 and packet[9] == TCP:
        address, segment = packet[16:20], packet[(packet[0] & 0x0F) * 4 :]
    elif ethertype == ETHERTYPE_IPV6 and packet[6] == TCP:
        address, segment = packet[24:40], packet[40:]
    else:
        return None
    if segment[13] & (SYN | ACK) != SYN:
        return None
    return ipaddress.ip_address(address), int.from_bytes(segment[2:4])


def record(packets, path):
    with open(path, "a", encoding="ascii") as file:
        while True:
            packet, (_, ethertype, *_) = packets.recvfrom(256)
            found = destination(packet, ethertype)
            if found:
                print(*found, file=file, flush=True)


class Zone:
    """The names of the network. A name with several rounds of addresses answers with the next one at each lookup."""

    def __init__(self, names):
        self.names = names
        self.asked = {}

    def answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
            at += 1 + query[at]
        name, kind = ".".join(labels).lower(), struct.unpack("!H", query[at + 1 : at + 3])[0]
        mode = self.names.get(name, {}).get("mode")
        if mode == "silent":
            return None
        if mode == "garbage":
            return query[:2] + b"\x81\x80" + b"\xff" * 40
        records, code = [], REFUSED if mode == "refused" else NO_ERROR
        while "cname" in self.names.get(name, {}) and len(records) < 20:
            target = self.names[name]["cname"]
            records.append(self.record(name, CNAME, self.encoded(target)))
            name = target
        rounds = self.names.get(name, {}).get({A: "a", AAAA: "aaaa"}.get(kind), [])
        if rounds:
            number = self.asked[name, kind] = self.asked.get((name, kind), -1) + 1
            for address in rounds[min(number, len(rounds) - 1)]:
                records.append(self.record(name, kind, ipaddress.ip_address(address).packed))
        flags = 0x8180 | code | (0x0200 if mode == "truncated" else 0)
        counts = struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
        return query[:2] + counts + query[12 : at + 5] + b"".join(records)

    @staticmethod
    def encoded(name):
        parts = [part.encode() for part in name.split(".")]
        return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"

    def record(self, name, kind, data):
        return self.encoded(name) + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


def serve_names(server, zone):
    while True:
        query, client = server.recvfrom(4096)
        answer = zone.answer(query)
        if answer:
            server.sendto(answer, client)


def serve_redirects(listener, tls, targets):
    while True:
        connection, _ = listener.accept()
        connection.settimeout(5)
        try:
            with tls.wrap_socket(connection, server_side=True) as stream:
                request = stream.recv(8192).decode("latin-1").lower()
                host = request.split("host: ", 1)[1].split(":", 1)[0]
                stream.sendall(
                    f"HTTP/1.1 307 Temporary Redirect\r\nlocation: {targets[host]}\r\ncontent-length: 0\r\n\r\n".encode()
                )
        except (OSError, IndexError, KeyError):
            continue


def main():
    data, certificate, key, path, *program = sys.argv[1:]
    with open(data, encoding="utf-8") as file:
        zone = json.load(file)["zone"]
    prepare()
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL_PROTOCOLS))
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    redirects = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    redirects.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    redirects.bind(REDIRECTS)
    redirects.listen(16)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    parent = os.getpid()
    if os.fork():
        os.execv(program[0], program)
    # The servers end with the program.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    targets = {name: entry["redirect"] for name, entry in zone.items() if "redirect" in entry}
    for serve, *arguments in (
        (serve_names, names, Zone(zone)),
        (serve_redirects, redirects, tls, targets),
    ):
        threading.Thread(target=serve, args=arguments, daemon=True).start()
    record(packets, path)


main()
