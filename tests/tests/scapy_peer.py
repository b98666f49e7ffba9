"""The other end of manual tunnels, made of scapy's ESP and AH: answers each UDP datagram with its data in upper case.

usage: scapy_peer.py INTERFACE MAC CASES
CASES is a JSON list; of each: v6, mode, local and remote (as the stack has them), esp and ah (null where there is none):
{spi_in, spi_out, crypt, crypt_in, crypt_out, auth, auth_in, auth_out}. A line "ready" says that it listens.
"""

import json
import logging
import sys

logging.getLogger("scapy").setLevel(logging.ERROR)

from scapy.all import ETH_P_ALL, IP, UDP, Ether, IPv6, Raw, bind_layers, conf, split_layers  # noqa: E402
from scapy.layers.ipsec import AH, ESP, SecurityAssociation  # noqa: E402


def association(kind, part, case, inbound, tunnel):
    """One SA. What is inbound for the stack is outbound here, so the tunnel header is the stack's on the way out."""
    of = "in" if inbound else "out"
    header = None
    if tunnel:
        ends = dict(src=case["remote"], dst=case["local"]) if inbound else dict(src=case["local"], dst=case["remote"])
        header = (IPv6 if case["v6"] else IP)(**ends)
    options = {}
    if kind is ESP:
        options["crypt_algo"] = part["crypt"]
        options["crypt_key"] = bytes.fromhex(part["crypt_" + of])
    if part["auth"] != "NULL":
        options["auth_algo"] = part["auth"]
        options["auth_key"] = bytes.fromhex(part["auth_" + of])
    return SecurityAssociation(kind, spi=part["spi_" + of], tunnel_header=header, **options)


def layers(case, inbound):
    """The SAs of one direction, the innermost first."""
    tunnel = case["mode"] == "tunnel"
    made = []
    if case["esp"]:
        made.append(association(ESP, case["esp"], case, inbound, tunnel))
    if case["ah"]:
        # Around ESP it adds no header of its own.
        made.append(association(AH, case["ah"], case, inbound, tunnel and not case["esp"]))
    return made


def answer(packet):
    upper = packet[UDP]
    reply = packet.__class__(src=packet.dst, dst=packet.src) / UDP(sport=upper.dport, dport=upper.sport)
    reply /= Raw(bytes(upper.payload).upper())
    return packet.__class__(bytes(reply))


def around(sa, packet):
    """AH around a packet. Where scapy saw ESP inside, it would write the ICV in the wrong place."""
    split_layers(IP, ESP, proto=50)
    split_layers(IPv6, ESP, nh=50)
    try:
        return sa.encrypt(packet.__class__(bytes(packet)))
    finally:
        bind_layers(IP, ESP, proto=50)
        bind_layers(IPv6, ESP, nh=50)


def main():
    interface, mac = sys.argv[1], sys.argv[2]
    cases = {case["remote"]: case for case in json.loads(sys.argv[3])}
    socket = conf.L2socket(iface=interface, type=ETH_P_ALL)
    print("ready", flush=True)
    while True:
        frame = socket.recv()
        if frame is None or frame.src == mac:
            continue
        packet = frame.getlayer(IPv6) or frame.getlayer(IP)
        case = cases.get(packet.dst) if packet else None
        number = {50, 51}
        if case is None or (packet.version == 4 and packet.proto not in number) or (
            packet.version == 6 and packet.nh not in number
        ):
            continue
        try:
            for sa in reversed(layers(case, False)):
                # Behind AH it leaves octets that it has not looked into.
                packet = (IPv6 if case["v6"] else IP)(bytes(sa.decrypt(packet)))
            reply = answer(packet)
            for sa in layers(case, True):
                reply = around(sa, reply) if sa.proto is AH else sa.encrypt(reply)
            socket.send(Ether(src=mac, dst=frame.src) / reply)
            print("answered", case["name"], flush=True)
        except Exception as error:  # pylint: disable=broad-except
            print("refused", case["name"], repr(error), flush=True)


main()
