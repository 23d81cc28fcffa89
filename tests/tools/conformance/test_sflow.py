"""The judge of captures of sFlow: lines that differ, structures it has no lines for, and datagrams that are damaged."""

from __future__ import annotations

from pathlib import Path

from tests.tools.conformance.test_netflow import capture
from weir.protocols.sflow import encode
from weir.tools.conformance import sflow
from weir.tools.conformance.as_tcpdump import printed


def test_captures_are_compared_line_by_line(tmp_path: Path) -> None:
    folder = tmp_path / "sflow"
    folder.mkdir()
    plain = encode.datagram([encode.counter_sample([encode.counter_record("if_counters", ifIndex=3, ifDirection=1)])])
    capture(folder / "one.pcap", [("192.0.2.1", plain)])
    assert [case.difference for case in sflow.cases(tmp_path)] == [None]
    lines = printed(plain)
    (folder / "one-nv.out").write_text("\n".join([f" 1 {lines[0]}", *(f"\t{line}" for line in lines[1:])]))
    assert [case.difference for case in sflow.cases(tmp_path)] == [None]
    (folder / "one-nv.out").write_text("\n".join([f" 1 {lines[0]}", *(f"\t{line}9" for line in lines[1:])]))
    (wrong,) = sflow.cases(tmp_path)
    assert "line 1 is" in str(wrong.difference)


def test_structures_without_lines_leave_those_of_the_samples(tmp_path: Path) -> None:
    folder = tmp_path / "sflow"
    folder.mkdir()
    other = encode.datagram([encode.counter_sample([encode.counter_record("vlan_counters", vlan_id=3)])])
    capture(folder / "two.pcap", [("192.0.2.1", other)])
    lines = printed(other, structures=False)
    text = "\n".join([f" 1 {lines[0]}", f"\t{lines[1]}", "\t  enterprise 0, VLAN counter (5) length 28", "\t  whatever"])
    (folder / "two.out").write_text(text)
    assert [case.difference for case in sflow.cases(tmp_path)] == [None]
    (folder / "two.out").write_text(text.replace("records 1", "records 2"))
    assert all(case.difference for case in sflow.cases(tmp_path))


def test_a_damaged_datagram_without_tcpdumps_word_is_a_difference(tmp_path: Path) -> None:
    folder = tmp_path / "sflow"
    folder.mkdir()
    cut = encode.datagram([encode.counter_sample([encode.counter_record("if_counters", ifIndex=3)])])[:-20]
    capture(folder / "three.pcap", [("192.0.2.1", cut)])
    (found,) = sflow.cases(tmp_path)
    assert found.difference is not None
    (folder / "three.out").write_text(" 1 sFlowv5, [|sflow]")
    (told,) = sflow.cases(tmp_path)
    assert told.difference is None
