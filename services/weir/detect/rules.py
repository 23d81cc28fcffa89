"""Loading a folder of Sigma rules: what can be evaluated is compiled, everything else is named with its file, line and cause.

A file holds YAML documents: rules, and correlations that refer to rules by name or id, in the same file or another. Beside Sigma's
own keys a document may have a mapping `weir` (Sigma permits keys of one's own):

    weir:
      entities:              # of a correlation: what the alert names, and the event field each is taken from
        user: user.name
      tests: […]             # see weir.detect.cases
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from sigma.collection import SigmaCollection
from sigma.correlations import (
    SigmaCorrelationCondition,
    SigmaCorrelationConditionOperator,
    SigmaCorrelationRule,
    SigmaCorrelationType,
)
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

from weir.detect.logsources import dataset_of, record_field
from weir.detect.matcher import Predicate, UnsupportedError, compile_rule

__all__ = ["DEFAULT_RULES", "Correlation", "Problem", "Rule", "RuleSet", "load_rules"]

DEFAULT_RULES = Path(__file__).parent / "rules"
SLICES = 12
MAX_FILE_BYTES = 1_000_000
_EXTENSION_KEYS = {"entities", "tests"}
_TECHNIQUE = re.compile(r"t\d{4}(\.\d{3})?")
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a rule file that is left out, and why. `line` counts from 1; 0 where no line can be named."""

    file: str
    line: int
    title: str
    cause: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.title}: {self.cause}" if self.title else f"{place}: {self.cause}"


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One Sigma rule, compiled. `required` are texts that a field of every matching event must equal, in lower case."""

    id: str
    title: str
    dataset: str
    matches: Predicate
    required: dict[str, frozenset[str]]
    level: str
    tags: tuple[str, ...]
    false_positives: tuple[str, ...]
    tests: tuple[dict[str, Any], ...]
    file: str


@dataclass(frozen=True, slots=True, eq=False)
class Correlation:
    """One Sigma correlation of type event_count. Times are microseconds.

    `group_by` are Sigma's field names, `group_fields` the record fields they stand for. Event time is counted in slices of
    `slice_us`, aligned to the epoch; a window is `slices` of them, and fires from `threshold` events on.
    """

    id: str
    title: str
    description: str
    level: str
    rules: tuple[Rule, ...]
    group_by: tuple[str, ...]
    group_fields: tuple[str, ...]
    timespan_us: int
    slice_us: int
    threshold: int
    entities: dict[str, str] = field(default_factory=dict)
    techniques: tuple[str, ...] = ()
    tactics: tuple[str, ...] = ()
    false_positives: tuple[str, ...] = ()
    tests: tuple[dict[str, Any], ...] = ()
    file: str = ""

    @property
    def slices(self) -> int:
        """Slices in a window; together never longer than the timespan."""
        return max(1, self.timespan_us // self.slice_us)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What a folder of rules came to. `version` is a hash of its files' names and content."""

    version: str
    rules: tuple[Rule, ...]
    correlations: tuple[Correlation, ...]
    problems: tuple[Problem, ...]

    def correlation(self, correlation_id: str) -> Correlation | None:
        """The correlation with this id."""
        return next((c for c in self.correlations if c.id == correlation_id), None)


@dataclass(frozen=True, slots=True)
class _Document:
    file: str
    line: int
    parsed: SigmaRule | SigmaCorrelationRule

    def problem(self, cause: str) -> Problem:
        return Problem(self.file, self.line, self.parsed.title, cause)


def load_rules(folder: Path | str | None = None) -> RuleSet:
    """The rules in a folder and its sub-folders, or those that come with Weir.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    root = Path(folder) if folder is not None else DEFAULT_RULES
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of rules; WEIR_RULES_DIR must name one with Sigma files (*.yml)")
    digest = hashlib.sha256()
    problems: list[Problem] = []
    documents: list[_Document] = []
    for path in sorted(p for p in root.rglob("*") if p.suffix in {".yml", ".yaml"} and p.is_file()):
        name = path.relative_to(root).as_posix()
        content = path.read_bytes()
        digest.update(f"{len(name)} {name} {len(content)} ".encode() + content)
        documents.extend(_documents(name, content, problems))
    rules: dict[str, Rule] = {}
    by_reference: dict[str, str] = {}
    broken: set[str] = set()
    referred: set[str] = set()
    ids: set[str] = set()
    kept: list[_Document] = []
    for document in documents:
        if document.parsed.id is None:
            problems.append(document.problem("has no id; alerts are named after it"))
        elif str(document.parsed.id) in ids:
            problems.append(document.problem(f"id {document.parsed.id} is taken by another rule"))
        else:
            ids.add(str(document.parsed.id))
            kept.append(document)
    for document in kept:
        if isinstance(document.parsed, SigmaRule):
            identity = str(document.parsed.id)
            names = {identity} | ({document.parsed.name} if document.parsed.name else set())
            by_reference.update(dict.fromkeys(names, identity))
            try:
                rules[identity] = _rule(document.parsed, document.file)
            except (UnsupportedError, SigmaError) as error:
                problems.append(document.problem(_cause(error)))
                broken.add(identity)
    correlations = []
    for document in kept:
        if isinstance(document.parsed, SigmaCorrelationRule):
            references = [reference.reference for reference in document.parsed.rules or []]
            referred.update(by_reference.get(reference, reference) for reference in references)
            try:
                members = tuple(_member(reference, by_reference, rules, broken) for reference in references)
                correlations.append(_correlation(document.parsed, members, document.file))
            except (UnsupportedError, SigmaError) as error:
                problems.append(document.problem(_cause(error)))
    problems.extend(
        document.problem("no correlation refers to it, and a single event raises no alert yet")
        for document in kept
        if str(document.parsed.id) in rules and str(document.parsed.id) not in referred
    )
    return RuleSet(digest.hexdigest()[:16], tuple(rules.values()), tuple(correlations), tuple(problems))


def _documents(name: str, content: bytes, problems: list[Problem]) -> Iterator[_Document]:
    if len(content) > MAX_FILE_BYTES:
        problems.append(Problem(name, 0, "", f"{len(content)} bytes; a rule file has at most {MAX_FILE_BYTES}"))
        return
    try:
        text = content.decode("utf-8-sig")
        lines = [node.start_mark.line + 1 for node in yaml.compose_all(text, yaml.SafeLoader)]
        loaded = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 0
        detail = str(getattr(error, "problem", "") or error).replace("\n", " ")
        problems.append(Problem(name, line, "", f"not YAML: {detail}"))
        return
    for line, raw in zip(lines, loaded, strict=True):
        if raw is None:
            continue
        title = str(raw.get("title", "")) if isinstance(raw, dict) else ""
        cause: str | None = _refusal(raw)
        if cause is None:
            try:
                parsed = SigmaCollection.from_dicts([raw], collect_errors=True, resolve_references=False)
            except Exception as error:  # pySigma raises many kinds for rules of unexpected shape
                cause = f"not a Sigma rule: {_cause(error)}"
            else:
                if parsed.errors:
                    cause = "; ".join(dict.fromkeys(_cause(error) for error in parsed.errors))
                else:
                    yield from (_Document(name, line, rule) for rule in parsed.rules)
        if cause is not None:
            problems.append(Problem(name, line, title, cause))


def _refusal(raw: Any) -> str | None:
    if not isinstance(raw, dict):
        return "a document that is not a mapping"
    if "action" in raw:
        return f"collection action {raw['action']} is not supported; write each rule out"
    if "filter" in raw:
        return "Sigma filters are not supported yet"
    return None


def _cause(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, SigmaError) and error.args else str(error) or type(error).__name__
    return " ".join(text.split())


def _extension(parsed: SigmaRule | SigmaCorrelationRule) -> dict[str, Any]:
    found = parsed.custom_attributes.get("weir", {})
    if not isinstance(found, dict):
        raise UnsupportedError("weir: must be a mapping")
    if unknown := sorted(set(found) - _EXTENSION_KEYS):
        raise UnsupportedError(f"weir: unknown {', '.join(unknown)}; known are {', '.join(sorted(_EXTENSION_KEYS))}")
    tests = found.get("tests", [])
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise UnsupportedError("weir.tests: must be a list of mappings")
    return found


def _rule(parsed: SigmaRule, file: str) -> Rule:
    source = dataset_of(parsed.logsource)
    compiled = compile_rule(parsed, lambda name: record_field(name, source.dataset))
    where = tuple(source.where.items())
    inner = compiled.matches

    def matches(record: dict[str, Any]) -> bool:
        return all(record.get(name) == value for name, value in where) and inner(record)

    extension = _extension(parsed)
    if "entities" in extension:
        raise UnsupportedError("weir.entities: belongs to the correlation")
    return Rule(
        id=str(parsed.id),
        title=parsed.title,
        dataset=source.dataset,
        matches=matches if where else inner,
        required={name: frozenset({value.lower()}) for name, value in where} | compiled.required,
        level=parsed.level.name.lower() if parsed.level else "",
        tags=tuple(map(str, parsed.tags)),
        false_positives=tuple(parsed.falsepositives),
        tests=tuple(extension.get("tests", ())),
        file=file,
    )


def _member(reference: str, by_reference: dict[str, str], rules: dict[str, Rule], broken: set[str]) -> Rule:
    identity = by_reference.get(reference, reference)
    if identity in rules:
        return rules[identity]
    if identity in broken:
        raise UnsupportedError(f"its rule {reference} is left out")
    raise UnsupportedError(f"there is no rule {reference}; correlations of correlations are not supported yet")


def _correlation(parsed: SigmaCorrelationRule, members: tuple[Rule, ...], file: str) -> Correlation:
    if parsed.type is not SigmaCorrelationType.EVENT_COUNT:
        raise UnsupportedError(f"correlation type {parsed.type.name.lower()} is not supported yet; event_count is")
    if parsed.generate:
        raise UnsupportedError("generate: true is not supported yet")
    if parsed.aliases.aliases:
        raise UnsupportedError("aliases are not supported yet")
    if not members:
        raise UnsupportedError("names no rule")
    timespan_us = parsed.timespan.seconds * _SECOND
    slice_us = max(1, round(parsed.timespan.seconds / SLICES)) * _SECOND
    group_by = tuple(parsed.group_by or ())
    extension = _extension(parsed)
    entities = extension.get("entities", {})
    if not isinstance(entities, dict):
        raise UnsupportedError("weir.entities: must map a name to an event field")

    def resolve(name: str) -> str:
        found = {record_field(name, rule.dataset) for rule in members}
        if len(found) > 1:
            raise UnsupportedError(f"field {name} has different names in its rules' datasets")
        return found.pop()

    tags = tuple(dict.fromkeys([*map(str, parsed.tags), *(tag for rule in members for tag in rule.tags)]))
    attack = [tag.removeprefix("attack.").lower() for tag in tags if tag.startswith("attack.")]
    return Correlation(
        id=str(parsed.id),
        title=parsed.title,
        description=" ".join((parsed.description or "").split()),
        level=parsed.level.name.lower() if parsed.level else next((r.level for r in members if r.level), "medium"),
        rules=members,
        group_by=group_by,
        group_fields=tuple(map(resolve, group_by)),
        timespan_us=timespan_us,
        slice_us=slice_us,
        threshold=_threshold(parsed.condition),
        entities={str(name): resolve(str(source)) for name, source in entities.items()},
        techniques=tuple(tag.upper() for tag in attack if _TECHNIQUE.fullmatch(tag)),
        tactics=tuple(tag.replace("_", "-").replace("-", " ").title() for tag in attack if not re.match(r"[tgs]\d{4}", tag)),
        false_positives=tuple(dict.fromkeys([*parsed.falsepositives, *(f for rule in members for f in rule.false_positives)])),
        tests=tuple(extension.get("tests", ())),
        file=file,
    )


def _threshold(condition: Any) -> int:
    if not isinstance(condition, SigmaCorrelationCondition):
        raise UnsupportedError("extended conditions are not supported yet")
    if condition.fieldref is not None:
        raise UnsupportedError("an event_count condition has no field")
    if not isinstance(condition.count, int):
        raise UnsupportedError(f"an event_count condition needs a whole number, not {condition.count}")
    if condition.op is SigmaCorrelationConditionOperator.GTE:
        threshold = condition.count
    elif condition.op is SigmaCorrelationConditionOperator.GT:
        threshold = condition.count + 1
    else:
        # Less-than and equal are true until they are not: they want absence, which ends a window, not a count that grows.
        raise UnsupportedError(f"condition {condition.op.name.lower()} is not supported yet; gt and gte are")
    if threshold < 1:
        raise UnsupportedError(f"a condition of {threshold} events is always true")
    return threshold
