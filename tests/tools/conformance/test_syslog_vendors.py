import json
import os
from pathlib import Path

import pytest

from weir.tools.conformance import report
from weir.tools.conformance.syslog_vendors import cases

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[3] / ".." / "shared" / "corpus"))


def test_no_difference_is_unexplained() -> None:
    found = report(CORPUS, {"syslog_vendors": cases})
    if not found:
        pytest.skip("the corpus is not here: set WEIR_CORPUS to the folder that has it")
    result = found["syslog_vendors"]
    assert not result.unexplained
    assert result.agreed >= 500
    assert len(result.differing) <= 40


def test_a_difference_that_nobody_has_argued_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "syslog" / "metron"
    folder.mkdir(parents=True)
    record = {
        "original_string": "<166>Jan  5 08:52:35 h %ASA-6-106015: Deny TCP (no connection) from 192.0.2.1/80 to 192.0.2.2/9 "
        "flags SYN "
        " on interface i",
        "ciscotag": "ASA-6-106015",
        "syslog_facility": "local4",
        "syslog_severity": "info",
        "timestamp": 1451983955000,
        "ip_src_addr": "192.0.2.9",
        "ip_dst_addr": "192.0.2.2",
        "action": "deny",
        "protocol": "tcp",
    }
    (folder / "asa__parsed__asa_parsed").write_text(json.dumps(record) + "\n")
    (case,) = cases(tmp_path)
    assert case.difference == "source_ip: expected '192.0.2.9', decoded '192.0.2.1'"
    assert case.reason is None
