"""Flows decoded per CPU-second: NetFlow v9 with 19 fields and 24 flows a datagram, and v5 with 30 flows.

Run from the root of the project: python -m bench.bench_netflow
"""

from __future__ import annotations

import time

from weir.protocols.netflow import Decoder, TemplateStore
from weir.protocols.netflow.encode import DataSet, FieldSpec, Message, Template, V5Datagram, V5Flow, encode, encode_v5, ipv4

SPECS = [
    (8, 4), (12, 4), (15, 4), (10, 4), (14, 4), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2), (11, 2), (6, 1), (4, 1), (5, 1),
    (16, 4), (17, 4), (9, 1), (13, 1), (61, 1),
]  # fmt: skip
UPTIME = 86_400_000


def rest(number: int) -> tuple[int, ...]:
    """Values of the fields from the ports on."""
    return (50_000 + number, 443, 0x1B, 6, 0, 64500, 64501, 24, 24, 0)


def v9() -> tuple[bytes, bytes]:
    """A template datagram and one of 24 flows."""
    template = Template(256, [FieldSpec(element, length) for element, length in SPECS])
    records = [
        (
            ipv4(f"10.0.{n}.1"),
            ipv4(f"192.0.2.{n}"),
            ipv4("192.0.2.254"),
            1,
            2,
            10 + n,
            1000 + n,
            UPTIME - 9000,
            UPTIME - 1000,
            *rest(n),
        )
        for n in range(24)
    ]
    return (
        encode(Message(9, 1_700_000_000, [template], uptime=UPTIME)),
        encode(Message(9, 1_700_000_000, [DataSet(template, records)], uptime=UPTIME)),
    )


def rate(decoder: Decoder, datagram: bytes, seconds: float = 2.0) -> float:
    """Flows per CPU-second of decoding one datagram over and over."""
    flows = 0
    begin = time.process_time()
    while time.process_time() - begin < seconds:
        for _ in range(100):
            flows += len(decoder.decode(datagram).flows)
    return flows / (time.process_time() - begin)


def main() -> None:
    """Print one line for each case."""
    template, data = v9()
    store = TemplateStore()
    store.learn(template)
    print(f"v9, 19 fields, 24 flows: {rate(Decoder(*store.required([data])), data):,.0f} flows per CPU-second")
    flows = [V5Flow(f"10.0.0.{n}", "192.0.2.1", 50_000 + n, 443, first=1000, last=2000) for n in range(30)]
    print(f"v5, 30 flows: {rate(Decoder(), encode_v5(V5Datagram(flows, 1_700_000_000, uptime=60_000))):,.0f} flows per CPU-second")
    datagrams = 0
    begin = time.process_time()
    while time.process_time() - begin < 1.0:
        for _ in range(100):
            store.learn(data)
            store.missing(data)
        datagrams += 100
    print(f"receiver's learn and missing: {datagrams / (time.process_time() - begin):,.0f} datagrams per CPU-second")


if __name__ == "__main__":
    main()
