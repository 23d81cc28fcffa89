"""Readers and enrichers as a third party might write them, well and badly; test_plugins.py names them as entry points."""

from __future__ import annotations

from typing import Any

from weir.processors.fields import Context, Decoded


class Reader:
    """Answers whatever `answer` is for lines that begin with "mine" and for documents that have the key "mine"."""

    name = "sample"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def line(self, text: str, context: Context) -> Decoded | None:
        if not text.startswith("mine"):
            return None
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]

    def document(self, document: dict[str, object], context: Context) -> Decoded | None:
        return self.line("mine", context) if "mine" in document else None


good = Reader(("syslog", {"message": "by the plug-in", "door": 7}))
takes_over = Reader(("network-log", {"message": "EVE, differently"}))
nothing = object()
not_callable = 5


class TakesOver:
    """Takes every document."""

    name = "takes-over"

    def line(self, text: str, context: Context) -> Decoded | None:
        return None

    def document(self, document: dict[str, object], context: Context) -> Decoded | None:
        return "network-log", {"message": "taken over"}


taker = TakesOver()


def enricher(dataset: str) -> Any:
    """Labels syslog events, sets a field, and one the schema lacks."""
    if dataset != "syslog":
        return None

    def step(records: list[dict[str, Any]]) -> None:
        for record in records:
            record["labels"] = {"seen": "yes"}
            record["host_name"] = "set"
            record["unknown_field"] = 1.5
            record["tags"] = [*record.get("tags", []), "more"]

    return step


def bad_enricher(dataset: str) -> Any:
    """Changes what it must not, then fails on some."""

    def step(records: list[dict[str, Any]]) -> None:
        for record in records:
            record["event_id"] = "forged"
            record["log_syslog_facility"] = "text"
            record["message"] = "changed"
            if "fail" in str(record.get("event_original") or record.get("host_name")):
                raise RuntimeError("no")

    return step
