"""What bursts have to tell: alert records, and what they gather for them within bounds."""

from __future__ import annotations

from typing import Any

from weir.detect.kinds.state import Episode, GroupState, Note
from weir.detect.rules import Correlation
from weir.detect.signals.gathering import MAX_EVIDENCE, MAX_SAMPLES
from weir.detect.telling.alerts import Origin, Told, alert_record

__all__ = ["fold", "present", "tell"]

# Of one alert: values of one entity, distinct values shown, alerts it is made of; and characters of each list. Further ones are
# left out.
MAX_RELATED = 20
MAX_SHOWN = 20
MAX_MEMBER_ALERTS = 20
MAX_DATASETS = 8
MAX_LIST_CHARACTERS = 1_000


def fold(episode: Episode, note: Note) -> None:
    """Take into a burst what one of its partials has to show."""
    episode.evidence.extend(note.evidence[: MAX_EVIDENCE - len(episode.evidence)])
    episode.samples.extend(note.samples[: MAX_SAMPLES - len(episode.samples)])
    episode.entities = {**note.entities, **episode.entities}
    for name, value in note.entities.items():
        _add(episode.related.setdefault(name, []), [value], MAX_RELATED)
    _add(episode.values, note.shown, MAX_SHOWN)
    _add(episode.datasets, note.datasets, MAX_DATASETS)
    _add(episode.member_alerts, note.member_alerts, MAX_MEMBER_ALERTS)


def _add(known: list[str], new: list[str], most: int) -> None:
    for text in new:
        if text not in known and len(known) < most and sum(map(len, known)) + len(text) <= MAX_LIST_CHARACTERS:
            known.append(text)


def tell(
    state: GroupState, episode: Episode, count: int, as_state: str, correlation: Correlation, origin: Origin
) -> dict[str, Any]:
    """The alert record of a burst as it stands."""
    told = Told(
        alert_id=episode.alert_id,
        state=as_state,
        revision=episode.revision,
        group=state.group,
        events=count,
        first=episode.first,
        last=episode.last,
        created=episode.created,
        measured=None if correlation.kind == "event_count" and not correlation.at_end else episode.measured,
        values=episode.values,
        entities=episode.entities,
        related=episode.related,
        evidence=episode.evidence,
        samples=episode.samples,
        datasets=episode.datasets,
        member_alerts=episode.member_alerts,
    )
    return alert_record(correlation, told, origin)


def present(state: GroupState, episode: Episode, correlation: Correlation, origin: Origin) -> dict[str, Any]:
    """The alert record that was told last, as far as it has not grown since."""
    count = episode.past + sum(b.covered[0] for b in state.buckets.values() if b.episode == episode.number)
    return tell(
        state, episode, count, "closed" if episode.closed else "new" if episode.revision == 1 else "update", correlation, origin
    )
