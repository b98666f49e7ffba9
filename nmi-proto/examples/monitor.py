#!/usr/bin/env python3
"""A monitor of the management interface in Python, standard library only.

    monitor.py [/var/sock/ipsecmgmt]            the stacks, their tunnels and packets, and their DVIPAs
    monitor.py --watch [/var/sock/ipsecmgmt]    what happens, as it happens

Layouts are those of docs/nmi.md. Exit status: 0 done, 1 failed, 3 not permitted.
"""

import ipaddress
import socket
import struct
import sys

INIT, TERM = 0x0001, 0x0002
GET_STACKINFO, GET_SUMMARY = 0x0101, 0x0102
EVENT, GET_DVIPA, SUBSCRIBE = 0x8001, 0x8103, 0x8107
EACCES = 111
DVIPA_STATES = ["unknown", "ACTIVE", "BACKUP", "MOVING", "QUIESCING", "DEACTIVATED", "DEST"]
EVENTS = [
    "?", "ike_up", "ike_rekeyed", "ike_down", "child_up", "child_rekeyed", "child_down", "negotiation_failed",
    "owner_changed", "protection_lost", "protection_regained", "policy_loaded", "policy_failed", "stack_up",
    "stack_down",
]


class Refused(Exception):
    """The daemon refused a request, or ended the connection."""

    def __init__(self, kind, rc, rsn):
        super().__init__(f"request {kind:#x}: return code {rc}, reason code {rsn}")
        self.rc = rc


def text(field):
    """A field padded with blanks."""
    return field.decode("ascii", "replace").rstrip(" ")


def address(field, ipv6):
    """16 bytes; IPv4 is in the last four."""
    return str(ipaddress.IPv6Address(field) if ipv6 else ipaddress.IPv4Address(field[12:]))


class Nmi:
    """A connection. Requests are in ASCII, so their answers are too."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        # INIT comes as soon as the daemon has a policy, in the daemon's own code page.
        kind, _ = self.receive()
        if kind != INIT:
            raise Refused(kind, 0, 0)

    def read(self, length):
        data = bytearray()
        while len(data) < length:
            piece = self.socket.recv(min(length - len(data), 1 << 16))
            if not piece:
                raise ConnectionError("the daemon closed the connection")
            data += piece
        return bytes(data)

    def receive(self):
        """Type and sections of the first descriptor of each record."""
        head = self.read(96)
        ident, _, _, kind, length = struct.unpack_from(">4sIHHI", head)
        rc, rsn = struct.unpack_from(">II", head, 28)
        offset, _, number, _ = struct.unpack_from(">4I", head, 80)
        if ident not in (b"NMsM", b"\xd5\xd4\xa2\xd4") or not 96 <= length <= 1 << 30:
            raise ConnectionError("not a message of this format")
        body = head + self.read(length - 96)
        if kind == TERM or rc != 0:
            raise Refused(kind, rc, rsn)
        sections, at = [], offset
        for _ in range(number):
            size, _, descriptors = struct.unpack_from(">IHH", body, at + 4)
            record, at = body[at : at + size], at + size
            if descriptors:
                start, width, count = struct.unpack_from(">IHH", record, 16)
                sections.append(record[start : start + width] if count else b"")
        return kind, sections

    def ask(self, kind, stack=""):
        target = stack.encode("ascii").ljust(24)
        head = struct.pack(">4sIHHIQIIII24s", b"NMsM", 96, 1, kind, 96, 0, 0, 0, 0, 0, target)
        self.socket.sendall(head.ljust(96, b"\0"))
        answered, sections = self.receive()
        if answered != kind:
            raise ConnectionError(f"answer {answered:#x} to request {kind:#x}")
        return sections


def show(nmi):
    for section in nmi.ask(GET_STACKINFO):
        stack = text(section[4:28])
        (summary,) = nmi.ask(GET_SUMMARY, stack)
        ike, child = struct.unpack_from(">I", summary, 0)[0], struct.unpack_from(">I", summary, 76)[0]
        permitted, denied = struct.unpack_from(">QQ", summary, 148)
        print(
            f"stack {stack}: {ike} IKE tunnels, {child} dynamic tunnels, "
            f"{permitted} packets permitted, {denied} denied"
        )
        for dvipa in nmi.ask(GET_DVIPA, stack):
            owner, state = text(dvipa[20:44]), dvipa[76]
            (epoch,) = struct.unpack_from(">Q", dvipa, 68)
            state = DVIPA_STATES[state] if state < len(DVIPA_STATES) else DVIPA_STATES[0]
            unprotected = " NOT PROTECTED" if dvipa[79] >= 2 else ""
            print(
                f"  dvipa {address(dvipa[4:20], dvipa[0] & 0x80)} {state} owner {owner} epoch {epoch}{unprotected}"
            )


def watch(nmi):
    nmi.ask(SUBSCRIBE)
    while True:
        kind, events = nmi.receive()
        for event in events if kind == EVENT else []:
            number, lost, _, what = struct.unpack_from(">QQIH", event)
            if lost:
                print(f"({lost} events were lost)")
            what = EVENTS[what] if what < len(EVENTS) else f"event {what}"
            words = [what, text(event[24:48]), text(event[48:96]), text(event[296:424])]
            print(number, " ".join(w for w in words if w), flush=True)


def main(arguments):
    watching = "--watch" in arguments
    paths = [a for a in arguments if not a.startswith("--")]
    try:
        nmi = Nmi(paths[0] if paths else "/var/sock/ipsecmgmt")
        (watch if watching else show)(nmi)
    except Refused as refused:
        print(f"monitor: {refused}", file=sys.stderr)
        return 3 if refused.rc == EACCES else 1
    except BrokenPipeError:
        return 0
    except (OSError, struct.error) as error:
        print(f"monitor: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
