"""Settings that every sink reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from weir.model.topics import declarations
from weir.ops.settings import ServiceSettings

__all__ = ["SinkSettings", "deliverable_topics", "lacking", "split_topics"]


class SinkSettings(ServiceSettings):
    """How a sink batches, retries, commits and stops; the same for each destination."""

    sink_linger_seconds: float = Field(2.0, ge=0, le=300, description="a batch is sent when its first record has waited so long")
    sink_buffer_bytes: int = Field(
        32 * 1024 * 1024, ge=1024 * 1024, description="bytes of Avro records in hand, shared out evenly between the topics"
    )
    sink_commit_seconds: float = Field(5.0, gt=0, le=300, description="time between commits; as much is repeated after a crash")
    sink_backoff_max_seconds: float = Field(60.0, gt=0, le=3600, description="longest wait between tries, unless asked for more")
    sink_give_up_seconds: float = Field(
        0.0, ge=0, description="dead-letter what the destination has not taken for so long; 0 tries for ever"
    )
    sink_stop_seconds: float = Field(20.0, ge=0, le=600, description="time for sends under way to finish after SIGTERM")


def deliverable_topics() -> list[str]:
    """Short names of the topics that sinks may read: every events.* and alerts, in the order of their declaration."""
    return [name for name, spec in declarations().items() if spec.dlq and (name.startswith("events.") or name == "alerts")]


def split_topics(variable: str, text: str) -> list[str]:
    """The topics in a comma list of short names, or all that a sink may read where it is empty.

    Raises:
        ValueError: naming every entry that is no such topic.
    """
    known = deliverable_topics()
    wanted = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())) or known
    if wrong := [name for name in wanted if name not in known]:
        raise ValueError(f"{variable}: {', '.join(map(repr, wrong))} cannot be sent on; there are {', '.join(known)}")
    return wanted


def lacking(settings: SinkSettings, name: str, needed: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each setting that is not set, and that the value of the setting `name` needs according to `needed`."""
    value = getattr(settings, name)
    return [
        f"WEIR_{other.upper()} is not set, and WEIR_{name.upper()}={value} needs it"
        for other in needed.get(value, ())
        if getattr(settings, other) is None
    ]
