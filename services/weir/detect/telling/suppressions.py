"""Suppressions and allow-lists: what operators have decided not to hear of, each with an owner, a reason and an end.

suppress:                     # alerts that are raised and not published
  - id: backup-rotation
    owner: storage team
    reason: weekly rotation of the backup share
    expires: 2027-03-01       # until the begin of this day, UTC; or a time with its zone; at most a year ahead
    rules: [qumulo_mass_delete]   # names or ids of rules and correlations, or any
    where: {user: svc-backup}     # by name: entities and group-by fields of the alert; all of them must match
allow:                        # events that the rules do not count
  - id: scanner
    owner: security
    reason: our own vulnerability scanner
    expires: 2027-06-30T12:00:00+02:00
    rules: any
    where: {source.ip: [10.9.0.0/24, 10.8.0.7], user.name: "svc-*"}   # by name: event fields

A pattern is a text (equal but for case), a CIDR range, a glob with `*` and `?`, or a list of these, any of which may match.

Whether an entry has expired is judged by times in the data, never by a clock: of an event its receive time, of an alert the receive
time that raised this record of it. The same raw records therefore give the same signals and alerts whenever they are read.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from fnmatch import translate
from pathlib import Path
from typing import Any, Final

from weir.detect.matching.fields import Getter, getter
from weir.detect.matching.matcher import UnsupportedError
from weir.detect.reading.logsources import LogSource, record_fields
from weir.detect.rules import Correlation, Member, Rule, RuleSet, Variant
from weir.detect.signals.pipeline import PIPELINE
from weir.model.topics import DATASETS
from weir.model.yamlfile import Place, YamlMistake, meant, read_yaml, told

__all__ = ["NOTHING", "Entry", "Suppressions", "SuppressionsError", "load_suppressions", "read_suppressions"]

MAX_ENTRIES: Final = 500
MAX_PATTERNS: Final = 1_000
"""Of one field of one entry."""
MAX_FILE_BYTES: Final = 1_000_000
YEAR_US: Final = 366 * 86_400_000_000

_LISTS: Final = ("suppress", "allow")
_KEYS: Final = ("id", "owner", "reason", "expires", "rules", "where")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")

Pattern = Callable[[str], bool]
Record = Mapping[str, Any]


class SuppressionsError(ValueError):
    """Suppressions that cannot be used; `mistakes` holds one sentence each, with file and line."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `expires` is microseconds UTC; without `rules` it holds for any; `where` must match in all its fields.

    `rules` are names and ids as in the file; `ids` are those that a rule set has for them (`Suppressions.of`).
    """

    id: str
    owner: str
    reason: str
    expires: int
    rules: frozenset[str] = frozenset()
    where: tuple[tuple[str, Pattern], ...] = ()
    ids: frozenset[str] = frozenset()
    line: int = 0

    def concerns(self, *ids: str) -> bool:
        """Whether it holds for one of these rules or correlations, by id."""
        return not self.rules or not self.ids.isdisjoint(ids)

    def takes_alert(self, alert: Record) -> bool:
        """Whether an alert record is one of those meant, expired or not."""
        values = {**alert["entities"], **alert["group_by"]}
        return self.concerns(alert["rule_id"]) and all(_matches(values.get(name), pattern) for name, pattern in self.where)


@dataclass(frozen=True, slots=True)
class Suppressions:
    """The entries of a file; `version` is a hash of its text."""

    suppress: tuple[Entry, ...] = ()
    allow: tuple[Entry, ...] = ()
    version: str = ""
    # What the rule set they were made for lacks: sentences for the log, not mistakes, since rules come and go.
    remarks: tuple[str, ...] = field(default=(), compare=False)

    def of(self, rule_set: RuleSet) -> Suppressions:
        """These entries for a rule set: names of rules are looked up, and `remarks` says what it does not have."""
        ids = _ids_by_reference(rule_set)
        remarks: list[str] = []

        def found(entry: Entry) -> Entry:
            known = [ids[reference] for reference in sorted(entry.rules) if reference in ids]
            if missing := sorted(entry.rules - set(ids)):
                remarks.append(f"{entry.id}: there is no rule {', '.join(missing)}{meant(missing[0], ids)}")
            return replace(entry, ids=frozenset(known))

        suppress, allow = tuple(map(found, self.suppress)), tuple(map(found, self.allow))
        for entry in suppress:
            remarks += _unknown_names(entry, rule_set)
        return replace(self, suppress=suppress, allow=allow, remarks=tuple(remarks))

    def suppressing(self, alert: Record) -> Entry | None:
        """The first entry that keeps this alert record from being published; None where none does."""
        created = alert["alert_created"]
        return next((entry for entry in self.suppress if created < entry.expires and entry.takes_alert(alert)), None)

    def allowing(self, rule_set: RuleSet) -> RuleSet:
        """The rule set, its rules matching no event that `allow` excepts them from. The entries must be made for it (`of`)."""
        if not self.allow:
            return rule_set
        return replace(rule_set, correlations=tuple(map(self._allowing, rule_set.correlations)))

    def expired(self, now: int) -> list[Entry]:
        """Entries that have no effect on what is received from now, microseconds UTC, on."""
        return [entry for entry in (*self.suppress, *self.allow) if entry.expires <= now]

    def _allowing(self, correlation: Correlation) -> Correlation:
        members = tuple(self._member(correlation, member) for member in correlation.members)
        return correlation if members == correlation.members else replace(correlation, members=members)

    def _member(self, correlation: Correlation, member: Member) -> Member:
        if member.rule is None:
            return member
        entries = [entry for entry in self.allow if entry.concerns(member.rule.id, correlation.id)]
        return replace(member, rule=_excepting(member.rule, entries)) if entries else member


NOTHING: Final = Suppressions()


def _excepting(rule: Rule, entries: list[Entry]) -> Rule:
    return replace(rule, variants=tuple(_variant(variant, entries) for variant in rule.variants))


def _variant(variant: Variant, entries: list[Entry]) -> Variant:
    tests = [test for entry in entries if (test := _event_test(variant, entry)) is not None]
    if not tests:
        return variant
    inner = variant.matches

    def matches(record: dict[str, Any]) -> bool:
        return inner(record) and not any(test(record) for test in tests)

    return replace(variant, matches=matches)


def _event_test(variant: Variant, entry: Entry) -> Callable[[dict[str, Any]], bool] | None:
    """Whether the entry excepts an event of this dataset; None where the dataset lacks one of its fields, so that none is."""
    where: list[tuple[Getter, Pattern]] = []
    for name, pattern in entry.where:
        try:
            where.append((getter(variant.record_field(name)), pattern))
        except UnsupportedError:
            return None
    expires = entry.expires
    return lambda record: record["event_created"] < expires and all(_matches(read(record), pattern) for read, pattern in where)


def _matches(value: Any, pattern: Pattern) -> bool:
    if value is None:
        return False
    if isinstance(value, list | tuple):
        return any(pattern(str(item)) for item in value)
    return pattern(value if isinstance(value, str) else str(value))


def _ids_by_reference(rule_set: RuleSet) -> dict[str, str]:
    ids: dict[str, str] = {}
    everything: tuple[Rule | Correlation, ...] = (*rule_set.correlations, *rule_set.rules)
    for one in everything:
        ids[one.id] = one.id
        if one.name:
            ids.setdefault(one.name, one.id)
    return ids


def _unknown_names(entry: Entry, rule_set: RuleSet) -> list[str]:
    concerned = [c for c in rule_set.correlations if entry.concerns(c.id)]
    known = {name for c in concerned for name in c.group_by}
    known |= {name for c in concerned for member in c.members for source in member.sources.values() for name in source.entities}
    missing = [name for name, _ in entry.where if name not in known]
    if not concerned or not missing:
        return []
    return [f"{entry.id}: no alert of its rules has {', '.join(missing)}{meant(missing[0], known)}"]


# -- from a file


def load_suppressions(path: Path, now: int) -> Suppressions:
    """The entries of a file.

    Args:
        now: microseconds UTC; no entry may end more than a year after it.

    Raises:
        SuppressionsError: with every mistake in it, each with file and line, or the reason why it cannot be read.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SuppressionsError([f"{path}: {reason}; WEIR_SUPPRESSIONS_FILE must name a readable YAML file"]) from error
    if len(content) > MAX_FILE_BYTES:
        raise SuppressionsError([f"{path}: {len(content)} bytes; the file may have {MAX_FILE_BYTES}"])
    return read_suppressions(text, now, str(path))


def read_suppressions(text: str, now: int, name: str = "suppressions") -> Suppressions:
    """The entries of a YAML text; `name` stands for the file in messages. Raises SuppressionsError as `load_suppressions`."""
    try:
        content, lines, mistakes = read_yaml(text)
    except YamlMistake as error:
        raise SuppressionsError([f"{name}:{error.line}: {error.problem}"]) from error
    if not isinstance(content, dict):
        raise SuppressionsError([f"{name}:1: must hold lists under the keys 'suppress' and 'allow'"])
    entries: dict[str, list[Entry]] = {key: [] for key in _LISTS}
    seen: dict[str, int] = {}
    for key, found in content.items():
        line = lines.get((key,), 1)
        if key not in _LISTS:
            mistakes.append((line, f"{key!r} is not a key{meant(str(key), _LISTS)}; there are 'suppress' and 'allow'"))
        elif not isinstance(found, list):
            mistakes.append((line, f"{key!r} must be a list of entries"))
        elif len(found) > MAX_ENTRIES:
            mistakes.append((line, f"{len(found)} entries; there may be {MAX_ENTRIES}"))
        else:
            for number, raw in enumerate(found):
                reading = _Reading(raw, (key, number), lines, now)
                entries[key].append(reading.entry())
                mistakes += reading.mistakes
    for entry in (*entries["suppress"], *entries["allow"]):
        if entry.id and (first := seen.setdefault(entry.id, entry.line)) != entry.line:
            mistakes.append((entry.line, f"id {entry.id!r} stands in line {first} already: the log names entries by it"))
    if mistakes:
        raise SuppressionsError(told(name, mistakes))
    version = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Suppressions(tuple(entries["suppress"]), tuple(entries["allow"]), version)


class _Reading:
    """One entry being read; what it makes is of use only where there are no `mistakes`."""

    def __init__(self, raw: Any, place: Place, lines: Mapping[Place, int], now: int) -> None:
        self.raw: dict[Any, Any] = raw if isinstance(raw, dict) else {}
        self.place = place
        self.lines = lines
        self.now = now
        self.line = lines.get(place, 1)
        self.mistakes: list[tuple[int, str]] = []
        self.title = f"entry {self.raw.get('id', place[1])!r}"
        if not isinstance(raw, dict):
            self.mistakes.append((self.line, f"{self.title} must be a mapping with {', '.join(_KEYS)}"))
        for key in self.raw:
            if key not in _KEYS:
                self._wrong(key, f"{key!r} is not a key{meant(str(key), _KEYS)}; there are {', '.join(_KEYS)}")

    def entry(self) -> Entry:
        """The entry, as far as it can be read."""
        if not self.raw:
            return Entry("", "", "", 0)
        rules, where = self._rules(), self._where()
        if not rules and not where and "rules" in self.raw:
            self._wrong("where", "rules: any without a where would silence everything; say what is meant")
        return Entry(
            id=self._text("id"),
            owner=self._text("owner"),
            reason=self._text("reason"),
            expires=self._expires(),
            rules=rules,
            where=where,
            line=self.line,
        )

    def _wrong(self, key: Any, problem: str) -> None:
        self.mistakes.append((self.lines.get((*self.place, str(key)), self.line), f"{self.title}: {problem}"))

    def _text(self, key: str) -> str:
        found = self.raw.get(key)
        if found is None or not str(found).strip() or isinstance(found, dict | list):
            why = {"owner": "who answers for it", "reason": "why it is there", "id": "what the log calls it by"}[key]
            self._wrong(key, f"{key} is missing: {why}")
            return ""
        return " ".join(str(found).split())

    def _expires(self) -> int:
        found = self.raw.get("expires")
        if found is None:
            self._wrong("expires", "expires is missing: every entry ends, at most a year ahead, and is then decided again")
            return 0
        try:
            until = _time_us(found)
        except (ValueError, OverflowError):
            self._wrong(
                "expires", f"expires: {found!r} is neither a day such as 2027-03-01 nor a time such as 2027-03-01T08:00:00Z"
            )
            return 0
        if until > self.now + YEAR_US:
            self._wrong("expires", f"expires {found} is more than a year ahead")
        return until

    def _rules(self) -> frozenset[str]:
        found = self.raw.get("rules")
        if found in ("any", ["any"]):
            return frozenset()
        listed = [found] if isinstance(found, str) else found
        if not isinstance(listed, list) or not listed or not all(isinstance(one, str) and one for one in listed):
            self._wrong("rules", "rules must be a list of names or ids of rules, or any")
            return frozenset({""})
        if "any" in listed:
            self._wrong("rules", "any stands alone: rules: any")
        return frozenset(listed)

    def _where(self) -> tuple[tuple[str, Pattern], ...]:
        found = self.raw.get("where", {})
        if not isinstance(found, dict):
            self._wrong("where", "where must map names to patterns")
            return ()
        where = []
        for name, patterns in found.items():
            listed = patterns if isinstance(patterns, list) else [patterns]
            if not listed or any(one is None or isinstance(one, dict | list) for one in listed):
                self._wrong("where", f"{name}: must be a text, a number or a list of them")
            elif len(listed) > MAX_PATTERNS:
                self._wrong("where", f"{name}: {len(listed)} patterns; there may be {MAX_PATTERNS}")
            elif self.place[0] == "allow" and (problem := _no_field(str(name))):
                self._wrong("where", problem)
            else:
                where.append((str(name), _pattern(map(str, listed))))
        return tuple(where)


def _time_us(value: Any) -> int:
    if isinstance(value, str):
        value = date.fromisoformat(value) if _DAY.fullmatch(value) else datetime.fromisoformat(value)
    if not isinstance(value, date):
        raise ValueError("no time")  # noqa: TRY004  the caller tells of values, not of types
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    value = value if value.tzinfo else value.replace(tzinfo=UTC)
    return int(value.timestamp()) * 1_000_000


def _pattern(texts: Iterable[str]) -> Pattern:
    """One test for all of a field's patterns: equal texts by a set, the others in turn."""
    equal: set[str] = set()
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    globs: list[str] = []
    for text in texts:
        if "/" in text and (network := _network(text)) is not None:
            networks.append(network)
        elif "*" in text or "?" in text:
            globs.append(translate(text.casefold().replace("[", "[[]")))
        else:
            equal.add(text.casefold())
    glob = re.compile("|".join(globs)) if globs else None

    def matches(value: str) -> bool:
        folded = value.casefold()
        if folded in equal or (glob is not None and glob.match(folded)):
            return True
        if not networks:
            return False
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return False
        return any(address in network for network in networks)

    return matches


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _no_field(name: str) -> str | None:
    """What is wrong with the name of an event field; None where some dataset has it."""
    for dataset in (*DATASETS, PIPELINE):
        try:
            LogSource(dataset).record_field(name)
        except UnsupportedError:
            continue
        return None
    known = {field for dataset in (*DATASETS, PIPELINE) for field in record_fields(dataset)}
    return f"no event has a field {name}{meant(name.replace('.', '_'), known)}"
