"""Flows as other programs read them: the same ones, but for the disagreements judged here. `make differential` fetches them.

Programs: `netflow` (python-netflow-v9-softflowd), `ipfix` and `scapy` from PyPI, and `tshark` where it is on the PATH. Inputs:
datagrams that our encoder makes, and the recorded ones of the corpus where it is there.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.differential.readers import READERS, ours
from weir.protocols.netflow.encode import (
    DataSet,
    FieldSpec,
    Message,
    Template,
    V5Datagram,
    V5Flow,
    encode,
    encode_v5,
    encode_v7,
    ipv4,
    ipv6,
)

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[3] / "shared" / "corpus")) / "netflow" / "codec-netflow"
EXPORT = 1_700_000_000

# What a program cannot read at all: its exception, and why that is its own limit.
LIMITS: dict[str, tuple[tuple[str, str], ...]] = {
    "netflow": (
        ("PaddingCalculationError", "fields of variable length, and some enterprise elements, are not read"),
        ("AttributeError", "elements of enterprises that it has no table of are not read"),
        ("unpack requires", "fields of variable length in NetFlow v9 are not read"),
        ("non-hexadecimal", "MAC addresses with an odd first digit are not read"),
        ("TemplateNotRecognized", "data before its template raises; we tell which template lacks"),
        ("UnknownExportVersion", "NetFlow v7 is not read"),
    ),
    "ipfix": (
        ("bad template ID 0", "padding behind a template is taken for a template"),
        ("No RLE", "numbers shortened to an odd length are not read (RFC 7011 section 6.2)"),
    ),
    "scapy": (
        ("duplicate parameter name", "templates that repeat an element, or with two elements it has no name for, are not read"),
    ),
    "tshark": (),
}

# (program, case): who is right where both read something. Where two others agree with us, that is said.
DISAGREEMENTS = {
    ("scapy", "Netflow 5 valid 01"): "reads on behind the records that the header counts: the file holds several datagrams",
    ("scapy", "Netflow 9 Fortigate FortiOS 5.2.1"): "gives the record of an options set as a flow",
    ("scapy", "Netflow 9 Cisco ASR 9000 series options template 256"): "gives records of an options set as flows",
    ("scapy", "Netflow 9 Cisco NBAR options template 260"): "gives records of an options set as flows",
    ("scapy", "Netflow 9 Huawei Netstream"): "another field over the protocol; netflow and tshark agree with us",
    ("scapy", "Netflow 9 Cisco NBAR flowset 262"): "other fields over bytes and packets; netflow and tshark agree with us",
    ("scapy", "IPFIX"): "a template and its data in one message: the data is not read; netflow and tshark agree with us",
    ("ipfix", "IPFIX"): "reads on behind the message: the file holds several",
    ("ipfix", "IPFIX YAF basic with applabel"): "gives the record of an options set as a flow",
    ("tshark", "IPFIX YAF basic with applabel"): "gives the record of an options set as a flow",
    ("tshark", "Netflow 9 invalid 01"): "gives the set up for its damaged neighbour; scapy reads it as we do",
    ("tshark", "Netflow 9 H3C"): "stops at a field of variable length in NetFlow v9, which H3C has; the codec's tests have all 16",
    ("scapy", "made up: v7"): "NetFlow v7 is not read",
    ("scapy", "made up: ipfix of variable length"): "fields of variable length shift what follows; tshark agrees with us",
}

V4 = Template(
    256, [FieldSpec(8, 4), FieldSpec(12, 4), FieldSpec(7, 2), FieldSpec(11, 2), FieldSpec(4, 1), FieldSpec(1, 4), FieldSpec(2, 4)]
)
V6 = Template(
    257,
    [FieldSpec(27, 16), FieldSpec(28, 16), FieldSpec(7, 2), FieldSpec(11, 2), FieldSpec(4, 1), FieldSpec(1, 8), FieldSpec(2, 8)],
)
NAMED = Template(258, [FieldSpec(8, 4), FieldSpec(371, 65535), FieldSpec(12, 4), FieldSpec(7, 2), FieldSpec(1, 3), FieldSpec(2, 1)])
SAMPLING = Template(259, [FieldSpec(48, 1), FieldSpec(50, 4)], [FieldSpec(1, 4)])
V4_ROWS = [(ipv4("192.0.2.1"), ipv4(f"198.51.100.{n}"), 1000 + n, 443, 6, 5000 + n, 10 + n) for n in range(20)]
V6_ROWS = [(ipv6("2001:db8::1"), ipv6(f"2001:db8::{n:x}"), 53, 2000 + n, 17, 1 << 33 | n, n + 1) for n in range(1, 9)]
NAMED_ROWS = [(ipv4("192.0.2.1"), b"user" * n, ipv4("192.0.2.2"), 80 + n, 70_000 + n, n + 1) for n in (0, 1, 70)]
FIXED = V5Datagram([V5Flow("192.0.2.1", f"192.0.2.{n}", 10 + n, 80, 6, n + 1, 100 * n + 1) for n in range(2, 9)], EXPORT, uptime=9)


def made_up() -> dict[str, list[bytes]]:
    """Datagrams of each version, with templates apart and within."""
    v9 = [V4, V6, DataSet(V4, V4_ROWS[:3], True), DataSet(V6, V6_ROWS, True)]
    return {
        "made up: v5": [encode_v5(FIXED)],
        "made up: v7": [encode_v7(FIXED)],
        "made up: v9": [
            encode(Message(9, EXPORT, [V4, SAMPLING])),
            encode(Message(9, EXPORT, [DataSet(SAMPLING, [(0, 1, 100)]), DataSet(V4, V4_ROWS, padded=True)], sequence=1)),
        ],
        "made up: v9 both families": [encode(Message(9, EXPORT, v9))],
        "made up: ipfix": [
            encode(Message(10, EXPORT, [V4, V6])),
            encode(Message(10, EXPORT, [DataSet(V4, V4_ROWS), DataSet(V6, V6_ROWS)])),
        ],
        "made up: ipfix of variable length": [
            encode(Message(10, EXPORT, [NAMED])),
            encode(Message(10, EXPORT, [DataSet(NAMED, NAMED_ROWS)])),
        ],
    }


def recorded() -> dict[str, list[bytes]]:
    """The corpus by case, or nothing where it is absent."""
    path = CORPUS / "expected.json"
    if not path.is_file():
        return {}
    return {case["name"]: [(CORPUS / name).read_bytes() for name in case["files"]] for case in json.loads(path.read_text())}


CASES = made_up() | recorded()
PAIRS = [
    (program, case)
    for program in READERS
    for case, datagrams in CASES.items()
    if program != "ipfix" or all(data[:2] == b"\0\x0a" for data in datagrams)  # which reads IPFIX only
]
if not PAIRS:
    pytest.skip("no other decoder of flows is installed: make differential brings them", allow_module_level=True)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize(("program", "case"), PAIRS)
def test_others_read_the_same_flows(program: str, case: str) -> None:
    datagrams = CASES[case]
    expected = Counter(flow for flow in ours(datagrams) if any(flow))
    try:
        found = Counter(flow for flow in READERS[program](datagrams) if any(flow))
    except Exception as error:  # any program may raise anything
        told = f"{type(error).__name__} {error}"
        assert any(sign in told for sign, _ in LIMITS[program]), told
        return
    if (program, case) in DISAGREEMENTS:
        assert found != expected, "this disagreement is gone: take it out of the table"
    else:
        assert found == expected


def test_our_own_flows_are_not_few() -> None:
    assert sum(len(ours(datagrams)) for datagrams in made_up().values()) == 7 + 7 + 20 + 11 + 28 + 3
