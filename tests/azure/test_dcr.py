"""Declarations that the service, and the stand-in that is stricter, take."""

from __future__ import annotations

import json

import pytest

from weir.azure.dcr import rules_document, stream_declarations
from weir.local.standins.dcr import parse_rules
from weir.model.mappings import projectable_topics, projection


def test_every_topic_has_one_stream_with_the_columns_that_its_rows_have() -> None:
    declared = stream_declarations()
    assert set(declared) == {projection("sentinel", topic).stream for topic in projectable_topics()}
    for topic in projectable_topics():
        made = projection("sentinel", topic)
        names = [column["name"] for column in declared[made.stream]["columns"]]
        assert names == [column.name for column in made.columns]
        assert "TimeGenerated" in names


def test_the_document_passes_the_rules_of_the_stand_in() -> None:
    document = json.loads(json.dumps(rules_document("dcr-0123456789abcdef0123456789abcdef")))
    rules = parse_rules(document)["dcr-0123456789abcdef0123456789abcdef"]
    assert {stream.table for stream in rules.values()} >= {"CommonSecurityLog", "ASimNetworkSessionLogs", "WeirAlert_CL"}
    assert rules["Custom-CommonSecurityLog"].id_column == "EventId_CF"
    assert rules["Custom-WeirAlert_CL"].id_column == "AlertId"


def test_only_the_topics_asked_for() -> None:
    assert list(stream_declarations(["alerts"])) == ["Custom-WeirAlert_CL"]
    with pytest.raises(KeyError, match=r"raw\.syslog"):
        stream_declarations(["raw.syslog"])
