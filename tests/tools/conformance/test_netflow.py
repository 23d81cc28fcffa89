"""The families netflow and sflow: no difference without a written reason, and enough cases that this says something."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from weir.local.generate.packets import ethernet, udp
from weir.local.generate.packets import ipv4 as ip_packet
from weir.protocols.netflow import Decoder, TemplateStore
from weir.protocols.netflow.encode import DataSet, FieldSpec, Message, Template, encode, ipv4
from weir.tools.conformance import Case, _codec_netflow, netflow, report, sflow
from weir.tools.conformance._codec_netflow import comparisons, expectations
from weir.tools.conformance.flow_captures import captures

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[4] / "shared" / "corpus"))
CODEC = CORPUS / _codec_netflow.FOLDER

needs_corpus = pytest.mark.skipif(not CODEC.is_dir(), reason=f"no corpus at {CODEC} (set WEIR_CORPUS)")


def codec_cases() -> list[dict[str, Any]]:
    """The expectations, or none where the corpus is absent."""
    return json.loads((CODEC / "expected.json").read_text()) if CODEC.is_dir() else []


@needs_corpus
def test_no_difference_is_without_a_reason() -> None:
    found = report(CORPUS, {"netflow": netflow.cases, "sflow": sflow.cases})
    assert [case for result in found.values() for case in result.unexplained] == []
    assert found["netflow"].cases >= 126
    assert found["netflow"].agreed >= 106
    assert found["sflow"].cases == found["sflow"].agreed >= 8


@needs_corpus
def test_most_expected_values_are_compared() -> None:
    """Of all that the codec's tests expect of flows only the number of the set and a few names of its own have no place here."""
    expected = compared = 0
    for case in codec_cases():
        events = set(_codec_netflow._decoded(CODEC, case).flows)
        expected += sum(one.event in events for one in expectations(case))
        compared += sum(1 for _ in comparisons(CODEC, case))
    assert compared > 1000
    assert compared / expected > 0.95


@needs_corpus
@pytest.mark.parametrize("case", codec_cases(), ids=lambda case: case["name"])
def test_a_worker_with_only_the_embedded_state_decodes_the_same(case: dict[str, Any]) -> None:
    """What the receiver's store says is required decodes each data datagram as well as the whole stream does."""
    store, stream = TemplateStore(), Decoder()
    for name in case["files"]:
        datagram = (CODEC / name).read_bytes()
        store.learn(datagram)
        assert Decoder(*store.needs([datagram])[:3]).decode(datagram) == stream.decode(datagram), name


def test_a_changed_expectation_is_a_difference(tmp_path: Path) -> None:
    """The judge itself: another count, another value, a value that a rule argues."""
    folder = tmp_path / _codec_netflow.FOLDER
    folder.mkdir(parents=True)
    template = Template(256, [FieldSpec(8, 4), FieldSpec(1, 4), FieldSpec(4, 1), FieldSpec(32, 2)])
    record = (ipv4("192.0.2.1"), 77, 6, 0)
    (folder / "a.dat").write_bytes(encode(Message(9, 1_700_000_000, [template, DataSet(template, [record])])))

    def judged(n_events: int, **values: object) -> Case:
        case = {
            "name": "made up", "files": ["a.dat"], "n_events": n_events, "json_events": [{"netflow": values}],
            "whole_event_match": [[0, 0]], "field_asserts": [],
        }  # fmt: skip
        (folder / "expected.json").write_text(json.dumps([case]))
        (found,) = _codec_netflow.cases(tmp_path)
        return found

    assert judged(1, ipv4_src_addr="192.0.2.1", in_bytes=77, version=9).difference is None
    assert "2 events are expected" in str(judged(2).difference)
    wrong = judged(1, in_bytes=78)
    assert "in_bytes is 77, 78 is expected" in str(wrong.difference)
    assert wrong.reason is None
    argued = judged(1, icmp_type=0)
    assert argued.difference is not None
    assert "not ICMP" in str(argued.reason)


def capture(path: Path, datagrams: list[tuple[str, bytes]]) -> None:
    """A capture of Ethernet frames from these addresses."""
    blocks = [b"\xd4\xc3\xb2\xa1" + bytes(12) + (65535).to_bytes(4, "little") + (1).to_bytes(4, "little")]
    blocks[0] = blocks[0][:4] + b"\2\0\4\0" + bytes(8) + blocks[0][16:]
    for source, data in datagrams:
        frame = ethernet(2, 3, ip_packet(source, "192.0.2.250", 17, udp(40000, 2055, data)))
        blocks.append(bytes(8) + len(frame).to_bytes(4, "little") * 2 + frame)
    path.write_bytes(b"".join(blocks))


def test_captures_are_judged_by_exporter_with_sampling_and_late_templates(tmp_path: Path) -> None:
    """Two exporters with the same domain and template id, of which one is late with its template."""
    narrow = Template(256, [FieldSpec(8, 4), FieldSpec(12, 4), FieldSpec(1, 4)])
    wide = Template(256, [FieldSpec(1, 8), FieldSpec(8, 4), FieldSpec(12, 4), FieldSpec(48, 1)])
    sampled = Template(257, [FieldSpec(48, 1), FieldSpec(50, 4)], [FieldSpec(1, 4)])
    one, two = ipv4("192.0.2.1"), ipv4("192.0.2.2")
    first = encode(Message(9, 1, [narrow, DataSet(narrow, [(one, two, 100)])]))
    data = encode(Message(9, 1, [DataSet(wide, [(10, two, one, 1), (10, two, one, 2)])]))
    late = encode(Message(9, 1, [wide, sampled, DataSet(sampled, [(0, 1, 5), (0, 2, 7)])]))
    capture(tmp_path / "traffic-00.pcap", [("192.0.2.11", first), ("192.0.2.12", data), ("192.0.2.12", late)])
    (plain,) = captures(tmp_path)
    assert plain.difference is None
    lines = [
        {"ip_src": "192.0.2.1", "ip_dst": "192.0.2.2", "bytes": 100}, {"ip_src": "192.0.2.2", "ip_dst": "192.0.2.1", "bytes": 120}
    ]  # fmt: skip
    output = tmp_path / "output-flow-00.json"
    output.write_text("\n".join(map(json.dumps, lines)))
    (agreed,) = captures(tmp_path)
    assert agreed.difference is None
    lines[1]["bytes"] = 121
    output.write_text("\n".join(map(json.dumps, lines)))
    (wrong,) = captures(tmp_path)
    assert "bytes differ" in str(wrong.difference)
    assert wrong.reason is None
