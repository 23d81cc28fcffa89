"""Plug-ins: loaded by name alone, asked first, and unable to stop the stream or to publish what the schema does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from tests.processors import plugin_samples
from tests.processors.plugin_samples import Reader
from weir.bus.codec import Encoder
from weir.model.batch import RawBatch
from weir.ops.settings import SettingsError
from weir.processors import beats, plugins, readers, syslog
from weir.processors.enrichment import Enrichment, load_enrichment
from weir.processors.outcome import Outcome, RawCoordinates
from weir.processors.plugins import ENRICHERS, READERS, WEIRS_OWN
from weir.processors.settings import ProcessorSettings

NOW = 1_790_000_000_000_000
WHERE = RawCoordinates("raw", 0, 0)


def point(name: str, group: str, value: str) -> EntryPoint:
    return EntryPoint(name, f"tests.processors.plugin_samples:{value}", group)


POINTS = [
    point("good", READERS, "good"),
    point("reader-only", READERS, "good"),
    point("good", ENRICHERS, "enricher"),
    point("taker", READERS, "taker"),
    point("bad", ENRICHERS, "bad_enricher"),
    point("nothing", READERS, "nothing"),
    point("missing", READERS, "no_such_name"),
    point("not-callable", ENRICHERS, "not_callable"),
    point("twice", READERS, "good"),
    point("twice", READERS, "taker"),
]


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plugins, "entry_points", lambda group: [one for one in POINTS if one.group == group])
    yield
    readers.ask_first(())


def process_lines(names: str, *lines: str) -> Outcome:
    loaded = plugins.activate(names)
    batch = RawBatch(bytes(16), "s", "r", "tcp", "192.0.2.1", 514, NOW, [f"<13>1 - host - - - - {line}".encode() for line in lines])
    return enriched(loaded, batch)


def enriched(loaded: plugins.Plugins, batch: RawBatch) -> Outcome:
    """What the syslog processor makes of a batch, and what plug-ins add, as in `run_processor`."""
    outcome = syslog.make_process()(batch, WHERE)
    Enrichment({}).followed_by(loaded.steps).apply(outcome.events)
    return outcome


def answered(monkeypatch: pytest.MonkeyPatch, answer: Any) -> Outcome:
    """What becomes of a line that a plug-in answers so."""
    monkeypatch.setattr(plugin_samples, "good", Reader(answer))
    return process_lines("good", "mine", "another line")


def test_only_what_is_named_is_loaded() -> None:
    assert plugins.load("").loaded == []
    assert [(one.name, one.group) for one in plugins.load(" good ,taker").loaded] == [
        ("good", READERS), ("good", ENRICHERS), ("taker", READERS),
    ]  # fmt: skip
    assert {one.name for one in plugins.installed()} == {one.name for one in POINTS}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("gooood", "no plug-in 'gooood' is installed; there are: bad, good"),
        ("nothing", "nothing .* is no reader"),
        ("missing", "missing .* cannot be loaded: AttributeError"),
        ("not-callable", "cannot be loaded: TypeError"),
        ("twice", "twice is in more than one package"),
    ],
)
def test_what_cannot_be_loaded_stops_the_start_with_a_sentence(names: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        plugins.load(names)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        plugins.load("a,b,good")
    assert len(caught.value.mistakes) == 2


def test_a_plug_in_is_asked_before_weirs_own_readers() -> None:
    eve = b'{"timestamp":"2024-03-01T12:00:00.000000+0000","event_type":"dns","src_ip":"192.0.2.1"}'
    batch = RawBatch(bytes(16), "s", "r", "http", "192.0.2.1", 8088, NOW, [eve])
    plugins.activate("")
    assert beats.process(batch, WHERE).events["network-log"][0]["event_module"] == "suricata"
    plugins.activate("taker")
    [taken] = beats.process(batch, WHERE).events["network-log"]
    assert (taken["message"], taken["event_module"]) == ("taken over", "taker")


def test_fields_that_the_schema_lacks_become_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"message": "m", "door": 7, "open": True, "labels": {"kept": "x"}}
    monkeypatch.setattr(plugin_samples, "good", Reader(("syslog", fields)))
    [event] = process_lines("reader-only", "mine").events["syslog"]
    assert event["labels"] == {"door": "7", "open": "True", "kept": "x"}
    assert (event["event_module"], event["event_dataset"]) == ("reader-only", "reader-only")
    Encoder("syslog")(event)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ValueError("not whole"), "plug-in good: not whole"),
        (RuntimeError("oops"), "plug-in good failed: RuntimeError"),
        (RecursionError(), "plug-in good failed: RecursionError"),
        ("syslog", "returned str"),
        (("syslog", None), "returned tuple"),
        (("no-dataset", {}), "returned the dataset 'no-dataset'; there are"),
        ((["syslog"], {}), "returned the dataset"),
        (("syslog", {"log_syslog_facility": "auth"}), "field log_syslog_facility of syslog is 'auth'"),
        (("syslog", {"log_syslog_facility": True}), "log_syslog_facility"),
        (("syslog", {"log_syslog_facility": 2**31}), "log_syslog_facility"),
        (("syslog", {"timestamp": 1.5}), "timestamp"),
        (("syslog", {"tags": "one"}), "tags"),
        (("syslog", {"tags": [None]}), "tags"),
        (("syslog", {"labels": {"a": 1}}), "labels"),
        (("syslog", {"message": "\ud800"}), "message"),
        (("syslog", {"unheard_of": object()}), "unheard_of"),
        (("syslog", {7: "x"}), "field 7"),
        *((("syslog", {name: "x"}), f"field {name} is Weir's own") for name in sorted(WEIRS_OWN)),
    ],
    ids=str,
)
def test_what_is_no_event_is_a_dead_letter_that_names_the_plug_in_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, answer: Any, said: str
) -> None:
    outcome = answered(monkeypatch, answer)
    [dead] = outcome.dead
    assert dead.unit_index == 0
    assert "plug-in good" in dead.reason
    assert said in dead.reason
    assert [event["event_id"].endswith("-1-0") for event in outcome.events["syslog"]] == [True]


def test_an_enricher_sets_fields_and_labels_and_what_the_schema_lacks_becomes_one() -> None:
    [event] = process_lines("good", "hello").events["syslog"]
    assert event["host_name"] == "set"
    assert event["labels"] == {"seen": "yes", "unknown_field": "1.5"}
    assert event["tags"] == ["more"]
    Encoder("syslog")(event)


def test_an_enricher_can_neither_forge_ids_nor_break_a_field() -> None:
    [event] = process_lines("bad", "hello").events["syslog"]
    assert event["event_id"] == f"{'0' * 32}-0-0"
    assert event["log_syslog_facility"] == 1
    assert event["message"] == "changed"


def test_an_enricher_that_fails_leaves_all_events_of_the_batch_as_they_were() -> None:
    loaded = plugins.activate("bad")
    batch = RawBatch(bytes(16), "s", "r", "tcp", "192.0.2.1", 514, NOW, [b"<13>1 - good - - - - one", b"<13>1 - fail - - - - two"])
    events = enriched(loaded, batch).events["syslog"]
    assert [event["message"] for event in events] == ["one", "two"]


def with_step(step: Any, *records: dict[str, Any]) -> list[dict[str, Any]]:
    """Records behind a plug-in's step."""
    Enrichment({"syslog": [plugins._guarded_step("p", "syslog", step)]}).apply({"syslog": list(records)})
    return list(records)


def test_an_enricher_that_sorts_or_removes_records_changes_no_others() -> None:
    def step(records: list[dict[str, Any]]) -> None:
        records.sort(key=lambda record: record["message"])
        for record in records:
            record["host_name"] = f"of {record['message']}"
        records.pop()

    found = with_step(step, {"message": "b"}, {"message": "c"}, {"message": "a"})
    assert [(one["message"], one["host_name"]) for one in found] == [("b", "of b"), ("c", "of c"), ("a", "of a")]


def test_values_that_cannot_even_be_looked_at_leave_the_events_as_they_were() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

        def __hash__(self) -> int:
            return 0

    def step(records: list[dict[str, Any]]) -> None:
        for record in records:
            record["host_name"] = "changed"
        records[-1]["message"] = Odd()

    assert with_step(step, {"message": "a"}, {"message": "b"}) == [{"message": "a"}, {"message": "b"}]


def test_an_enricher_sees_what_weirs_own_enrichment_has_filled_in() -> None:
    seen: list[Any] = []
    settings = ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9")
    enrichment = load_enrichment(settings).followed_by({"sensor": [lambda records: seen.extend(map(dict, records))]})
    enrichment.apply({"sensor": [{"source_ip": "10.0.0.1", "destination_ip": "192.0.2.1"}]})
    assert [one["network_direction"] for one in seen] == ["outbound"]


def test_what_a_failing_plug_in_says_is_logged_once_a_minute_whatever_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(plugins, "_told", {})
    monkeypatch.setattr(plugins.log, "error", lambda event, **values: said.append(values["error"]))
    clock = iter([0.0, 1.0, 59.0, 60.0])
    monkeypatch.setattr(plugins.time, "monotonic", lambda: next(clock))
    for number in range(4):
        plugins._report("p", "KeyError", f"sender's text {number}")
    assert said == ["KeyError: sender's text 0", "KeyError: sender's text 3"]
    assert len(plugins._told) == 1


def test_without_enrichers_the_enrichment_is_weirs_own() -> None:
    enrichment = Enrichment({})
    assert enrichment.followed_by(plugins.load("").steps) is enrichment
