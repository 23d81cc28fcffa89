"""The file of filters: rules in order, each with what it applies to and what it does.

filters:
  - name: no cron
    dataset: syslog              # or a list; without it, all datasets
    source: core-switch          # a name of the catalogue of sources, an address or a CIDR range, or a list; without it, all
    when: process_name == "CRON" # see `expression`; without it, always
    do: drop                     # or keep, sample 1/N, merge
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from weir.enrich.filters.expression import ExpressionError, Kind, Test, compile_expression
from weir.enrich.networks import Network
from weir.model.schemas import latest
from weir.model.sources import network_of
from weir.model.topics import DATASETS
from weir.model.yamlfile import Place, YamlMistake, meant, read_yaml, told

__all__ = ["ACTIONS", "FLOWS", "MAX_RULES", "Action", "FiltersError", "Rule", "fields_of", "load_rules", "read_rules"]

Record = dict[str, Any]
Action = Literal["drop", "keep", "sample", "merge"]

ACTIONS: Final[tuple[Action, ...]] = ("drop", "keep", "sample", "merge")
FLOWS: Final = "network-flow"
MAX_RULES: Final = 500
MAX_SAMPLE: Final = 1_000_000

_KEYS: Final = ("name", "dataset", "source", "when", "do")
_SAMPLE: Final = re.compile(r"sample\s+1/([1-9][0-9]{0,6})", re.ASCII)
_KINDS: Final = {"string": Kind.TEXT, "int": Kind.NUMBER, "long": Kind.NUMBER, "double": Kind.NUMBER, "float": Kind.NUMBER}


class FiltersError(ValueError):
    """Filters that cannot be used; `mistakes` holds one sentence each, with file and line."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Empty `datasets` are all; with neither `networks` nor `sources`, all sources; `n` is of a sample."""

    name: str
    action: Action
    n: int = 1
    datasets: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    sources: frozenset[str] = frozenset()
    when: str | None = None
    test: Test | None = None
    line: int = 0

    def concerns(self, dataset: str, source_ip: str, source_name: str | None) -> bool:
        """Whether it can apply to events of this dataset and source at all."""
        if self.datasets and dataset not in self.datasets:
            return False
        if not self.networks and not self.sources:
            return True
        if source_name is not None and source_name in self.sources:
            return True
        try:
            address = network_of(source_ip).network_address
        except ValueError:
            return False
        return any(address in network for network in self.networks)

    def takes(self, record: Record) -> bool:
        """Whether it applies to this event. A value that its schema does not allow fulfils no condition."""
        if self.test is None:
            return True
        try:
            return self.test(record)
        except (TypeError, AttributeError):
            return False

    @property
    def what(self) -> str:
        """What it does, as in the file."""
        return f"sample 1/{self.n}" if self.action == "sample" else self.action


@cache
def fields_of(dataset: str) -> dict[str, Kind]:
    """Fields of a dataset's events by name."""
    return {field["name"]: _kind(field["type"]) for field in latest(dataset).parsed["fields"]}


def _kind(declared: Any) -> Kind:
    if isinstance(declared, list):
        return next(_kind(one) for one in declared if one != "null")
    if isinstance(declared, dict):
        return {"array": Kind.LIST, "map": Kind.PAIRS}.get(declared["type"]) or _kind(declared["type"])
    return _KINDS.get(declared, Kind.FLAG)


def load_rules(path: Path) -> tuple[Rule, ...]:
    """The rules in a file.

    Raises:
        FiltersError: with every mistake in it, each with file and line, or the reason why it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise FiltersError([f"{path}: {reason}; WEIR_FILTERS_FILE must name a readable YAML file"]) from error
    return read_rules(text, str(path))


def read_rules(text: str, name: str = "filters") -> tuple[Rule, ...]:
    """The rules in a YAML text; `name` stands for the file in messages. Raises FiltersError as `load_rules`."""
    try:
        content, lines, mistakes = read_yaml(text)
    except YamlMistake as error:
        raise FiltersError([f"{name}:{error.line}: {error.problem}"]) from error
    if not isinstance(content, dict) or not isinstance(content.get("filters"), list):
        raise FiltersError([f"{name}:1: must hold a list under the key 'filters'"])
    for key in content:
        if key != "filters":
            mistakes.append((lines.get((key,), 1), f"{key!r} is not a key{meant(str(key), ['filters'])}; there is only 'filters'"))
    entries = content["filters"]
    if len(entries) > MAX_RULES:
        mistakes.append((lines["filters", MAX_RULES], f"more than {MAX_RULES} rules"))
    rules: list[Rule] = []
    for number, entry in enumerate(entries[:MAX_RULES]):
        reading = _Reading(entry, ("filters", number), lines)
        rules.append(reading.rule())
        mistakes += reading.mistakes
    names: dict[str, int] = {}
    for rule in rules:
        if rule.name and (first := names.setdefault(rule.name, rule.line)) != rule.line:
            mistakes.append((rule.line, f"rule {rule.name!r} stands in line {first} already: counts are told apart by name"))
    if mistakes:
        raise FiltersError(told(name, mistakes))
    return tuple(rules)


class _Reading:
    """One entry being read; what it makes is of use only where there are no `mistakes`."""

    def __init__(self, entry: Any, place: Place, lines: dict[Place, int]) -> None:
        self.mistakes: list[tuple[int, str]] = []
        self._entry: dict[Any, Any] = entry if isinstance(entry, dict) else {}
        self._place = place
        self._lines = lines
        self._who = "rule"
        if not isinstance(entry, dict):
            self._wrong((), "is a mapping with at least 'name' and 'do'")

    def _line(self, at: Place) -> int:
        place = (*self._place, *at)
        return next(line for n in range(len(place), -1, -1) if (line := self._lines.get(place[:n])) is not None)

    def _wrong(self, at: Place, sentence: str) -> None:
        self.mistakes.append((self._line(at), f"{self._who}: {sentence}"))

    def rule(self) -> Rule:
        """The rule that the entry describes."""
        entry = self._entry
        if not entry and self.mistakes:
            return Rule("", "keep")
        name = entry.get("name")
        if isinstance(name, str) and 0 < len(name) <= 100:
            self._who = f"rule {name!r}"
        else:
            self._wrong(("name",), "'name' is missing, or no text of 1 to 100 characters")
        for key in entry:
            if key not in _KEYS:
                self._wrong((str(key),), f"{key!r} is not a key of a rule{meant(str(key), _KEYS)}")
        datasets = self._datasets()
        networks, sources = self._sources()
        action, n = self._action(datasets)
        when, test = self._when(datasets)
        return Rule(str(name), action, n, datasets, networks, sources, when, test, self._line(()))

    def _listed(self, key: str) -> list[Any]:
        value = self._entry.get(key)
        if value == []:
            self._wrong((key,), f"'{key}' is an empty list: leave it out where all are meant")
        return value if isinstance(value, list) else [] if value is None else [value]

    def _at(self, key: str, number: int) -> Place:
        return (key, number) if isinstance(self._entry[key], list) else (key,)

    def _datasets(self) -> frozenset[str]:
        found = []
        for number, value in enumerate(self._listed("dataset")):
            if value in DATASETS:
                found.append(value)
            else:
                hint = meant(str(value), DATASETS) or f"; there are {', '.join(DATASETS)}"
                self._wrong(self._at("dataset", number), f"{value!r} is no dataset{hint}")
        return frozenset(found)

    def _sources(self) -> tuple[tuple[Network, ...], frozenset[str]]:
        networks: list[Network] = []
        names: list[str] = []
        for number, value in enumerate(self._listed("source")):
            if not isinstance(value, str) or not value:
                self._wrong(self._at("source", number), f"{value!r} is no name, address or CIDR range; quote it")
                continue
            try:
                networks.append(network_of(value))
            except ValueError as error:
                if "/" in value and not any(character.isalpha() for character in value):
                    self._wrong(self._at("source", number), str(error))
                else:
                    names.append(value)
        return tuple(networks), frozenset(names)

    def _action(self, datasets: frozenset[str]) -> tuple[Action, int]:
        value = self._entry.get("do")
        if value in ("drop", "keep"):
            return value, 1
        if value == "merge":
            if datasets != {FLOWS}:
                self._wrong(("do",), f"only flows can be merged: write dataset: {FLOWS}")
            return "merge", 1
        sample = _SAMPLE.fullmatch(value) if isinstance(value, str) else None
        if sample is not None and int(sample[1]) <= MAX_SAMPLE:
            return "sample", int(sample[1])
        given = "'do' is missing" if value is None else f"{value!r} cannot be done"
        self._wrong(("do",), f"{given}: drop, keep, merge, or sample 1/N with N up to {MAX_SAMPLE:,}")
        return "keep", 1

    def _when(self, datasets: frozenset[str]) -> tuple[str | None, Test | None]:
        value = self._entry.get("when")
        if value is None:
            if "when" in self._entry:
                self._wrong(("when",), "'when' is empty: leave it out where the rule always applies")
            return None, None
        if not isinstance(value, str):
            self._wrong(("when",), f"{value!r} is no condition; quote the whole of it")
            return None, None
        chosen = sorted(datasets) or list(DATASETS)
        shared = set.intersection(*(set(fields_of(one).items()) for one in chosen))
        whose = " and ".join(f"events.{one}" for one in chosen) if datasets else "all datasets; name the dataset"
        try:
            return value, compile_expression(value, dict(shared), whose)
        except ExpressionError as error:
            before = value[: error.position]
            row, column = before.count("\n"), error.position - (before.rfind("\n") + 1) + 1
            where = f"line {row + 1} of it, column {column}" if "\n" in value.strip() else f"column {column}"
            self._wrong(("when",), f"when, {where}: {error.message}")
            return value, None
