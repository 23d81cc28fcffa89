"""Loading a folder of Sigma rules: what can be evaluated is compiled, everything else is named with its file, line and cause.

A file holds YAML documents: rules, and correlations that refer to rules or other correlations by name or id, in the same file or
another. A rule raises alerts by itself unless a correlation refers to it; `generate: true` in that correlation lets it do both.
Beside Sigma's own keys a document may have a mapping `weir` (`extension`). A document may be a Sigma filter (`filters`), and the
file `placeholders.yml` holds values for placeholders (`placeholders`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule, SigmaExtendedCorrelationCondition
from sigma.exceptions import SigmaError
from sigma.filters import SigmaFilter
from sigma.rule import SigmaRule

from weir.detect.matching.matcher import Names, UnsupportedError, compile_rule, within
from weir.detect.reading.attack import attack_of
from weir.detect.reading.correlating import alone, correlation_of, without_upper
from weir.detect.reading.extension import read_extension
from weir.detect.reading.filters import filtered, unmet
from weir.detect.reading.folder import MAX_FILE_BYTES, SUPPRESSIONS, read_folder
from weir.detect.reading.logsources import LogSource, NotApplicableError, datasets_of
from weir.detect.reading.placeholders import FILE_NAME, NO_PLACEHOLDERS, Placeholders, read_placeholders
from weir.detect.reading.reloading import Replaced, with_previous
from weir.detect.rules import Correlation, Loaded, Problem, Rule, RuleSet, Variant
from weir.model.yamlfile import YamlMistake, read_documents

__all__ = ["DEFAULT_RULES", "load_rules", "parsed_rules"]

DEFAULT_RULES = Path(__file__).parents[1] / "rules"


@dataclass(frozen=True, slots=True)
class _Document:
    file: str
    line: int
    parsed: SigmaRule | SigmaCorrelationRule | SigmaFilter
    upper: tuple[str, float] | None = None
    """The upper end of a correlation's condition where that is a range."""

    @property
    def id(self) -> str:
        return str(self.parsed.id)

    def problem(self, cause: str, *, wrong: bool = True) -> Problem:
        rule_id = "" if self.parsed.id is None else self.id
        return Problem(self.file, self.line, self.parsed.title, cause, rule_id, wrong=wrong)


class _LeftOutError(UnsupportedError):
    """A correlation counts what is left out; `wrong` as in the problem that this one follows from."""

    def __init__(self, message: str, *, wrong: bool) -> None:
        super().__init__(message)
        self.wrong = wrong


def load_rules(folder: Path | str | None = None, previous: RuleSet | None = None) -> RuleSet:
    """The rules in a folder and its sub-folders, or those that come with Weir.

    Args:
        previous: what the folder came to before. Of rules that have become bad since, its version stays in force, and the problem
            says so; rules that are no longer there are gone. A folder without any rule file is then taken for a mistake.

    Raises:
        FileNotFoundError: there is no such folder, or it has become empty.
        OSError: it cannot be listed, or changes all the while.
    """
    root = Path(folder) if folder is not None else DEFAULT_RULES
    files = {name: content for name, content in read_folder(root).items() if name != SUPPRESSIONS}
    if previous is None:
        return _load(files, {})
    if not set(files) - {FILE_NAME}:
        raise FileNotFoundError(f"{root}: has no rule files any more; a folder on purpose without rules holds an empty .yml")
    return with_previous(files, previous, _load)


def parsed_rules(folder: Path | str | None = None) -> tuple[dict[str, SigmaRule], Placeholders]:
    """The rules of a folder by id, as pySigma parsed them, narrowed by filters; for those who explain what a rule means.

    A rule set does not keep them: thousands of parsed rules are too much to hold in every processor.

    Raises:
        OSError: as `load_rules`.
    """
    files = {name: content for name, content in read_folder(Path(folder or DEFAULT_RULES)).items() if name != SUPPRESSIONS}
    _, documents, _, placeholders = _read(files, {}, [])
    return {document.id: document.parsed for document in documents if isinstance(document.parsed, SigmaRule)}, placeholders


def _load(files: Mapping[str, bytes | OSError], replaced: Replaced) -> RuleSet:
    """The rules of these files; `replaced` are documents to take in place of those at a file and line."""
    problems: list[Problem] = []
    version, kept, filters, placeholders = _read(files, replaced, problems)
    found = _Assembly(kept, placeholders, problems).rule_set(version)
    contents = {name: content for name, content in files.items() if isinstance(content, bytes)}
    return replace(found, loaded=Loaded(contents, filters=filters))


def _read(
    files: Mapping[str, bytes | OSError], replaced: Replaced, problems: list[Problem]
) -> tuple[str, list[_Document], frozenset[str], Placeholders]:
    """Version of the files, their documents with filters applied, the ids of these, and placeholders."""
    digest = hashlib.sha256()
    documents: list[_Document] = []
    placeholders = NO_PLACEHOLDERS
    for name, content in files.items():
        if isinstance(content, OSError):
            problems.append(Problem(name, 0, "", f"cannot be read: {content.strerror}", whole=True))
            continue
        digest.update(f"{len(name)} {name} {len(content)} ".encode("utf-8", "surrogateescape") + content)
        if len(content) > MAX_FILE_BYTES:
            problems.append(Problem(name, 0, "", f"more than the {MAX_FILE_BYTES} bytes that a file of rules may have", whole=True))
        elif name == FILE_NAME:
            placeholders = _placeholders(name, content, problems)
        else:
            documents.extend(_documents(name, content, replaced, problems))
    filters = [document for document in documents if isinstance(document.parsed, SigmaFilter)]
    kept = list(_with_ids_of_their_own([document for document in documents if document not in filters], problems))
    ids = frozenset(document.id for document in filters if document.parsed.id is not None)
    return digest.hexdigest()[:16], _with_filters(kept, filters, placeholders, problems), ids, placeholders


def _placeholders(name: str, content: bytes, problems: list[Problem]) -> Placeholders:
    try:
        return read_placeholders(content)
    except UnsupportedError as error:
        problems.append(Problem(name, 0, "", str(error), whole=True))
        return NO_PLACEHOLDERS


def _with_filters(
    documents: list[_Document], filters: list[_Document], placeholders: Placeholders, problems: list[Problem]
) -> list[_Document]:
    parsed = [document.parsed for document in filters if isinstance(document.parsed, SigmaFilter)]
    places = {id(document.parsed): document for document in filters}
    rules = [document.parsed for document in documents if isinstance(document.parsed, SigmaRule)]
    problems.extend(places[id(one)].problem(cause) for one in parsed if (cause := unmet(one, rules)) is not None)

    def narrowed(document: _Document) -> _Document:
        rule = document.parsed
        if not isinstance(rule, SigmaRule):
            return document
        title = rule.title

        def refuse(one: SigmaFilter, cause: str) -> None:
            problems.append(places[id(one)].problem(f"is left out for rule {title}: {cause}"))

        return replace(document, parsed=filtered(rule, parsed, lambda rule: _variants(rule, placeholders), refuse))

    return list(map(narrowed, documents))


def _with_ids_of_their_own(documents: list[_Document], problems: list[Problem]) -> Iterator[_Document]:
    ids: set[str] = set()
    for document in documents:
        if document.parsed.id is None:
            problems.append(document.problem("has no id; alerts are named after it"))
        elif document.id in ids:
            problems.append(document.problem(f"id {document.id} is taken by another rule"))
        else:
            ids.add(document.id)
            yield document


class _Assembly:
    """Documents on their way to a rule set: those referred to come before those that refer to them."""

    def __init__(self, documents: list[_Document], placeholders: Placeholders, problems: list[Problem]) -> None:
        self.documents = documents
        self.placeholders = placeholders
        self.problems = problems
        self.by_reference: dict[str, _Document] = {}
        for document in documents:
            self.by_reference[document.id] = document
            if document.parsed.name and self.by_reference.setdefault(document.parsed.name, document) is not document:
                problems.append(document.problem(f"name {document.parsed.name} is taken by another rule, which it goes on to mean"))
        self.made: dict[str, Rule | Correlation] = {}
        # By id, whether what is left out is wrong, or only about other events than ours.
        self.broken: dict[str, bool] = {}
        self.making: list[str] = []
        # By id of what is referred to, the correlations that do; and what one of them leaves its own alerts.
        self.feeds: dict[str, list[str]] = {}
        self.generated: set[str] = set()
        # Also by correlations that are left out: what only counts somewhere must not flood when it counts nowhere.
        self.referred: set[str] = set()
        for document in documents:
            if isinstance(document.parsed, SigmaCorrelationRule):
                ids = {self.by_reference[name].id for name in _references(document.parsed) if name in self.by_reference}
                self.referred |= ids
                if document.parsed.generate:
                    self.generated |= ids

    def rule_set(self, version: str) -> RuleSet:
        for document in self.documents:
            if self._make(document) is not None and (unknown := attack_of(map(str, document.parsed.tags)).unknown):
                self.problems.append(document.problem(f"{', '.join(unknown)}: no tactic or technique of MITRE ATT&CK; left out"))
        correlations = []
        for document in self.documents:
            made = self.made.get(document.id)
            announce = document.id not in self.referred or document.id in self.generated
            if isinstance(made, Correlation):
                correlations.append(replace(made, announce=announce, feeds=tuple(self.feeds.get(made.id, ()))))
            elif isinstance(made, Rule) and announce:
                try:
                    correlations.append(alone(made, read_extension(document.parsed.custom_attributes)))
                except (UnsupportedError, SigmaError) as error:
                    self.problems.append(document.problem(_cause(error)))
        rules = tuple(made for made in self.made.values() if isinstance(made, Rule))
        return RuleSet(version, rules, tuple(correlations), tuple(self.problems))

    def _make(self, document: _Document) -> Rule | Correlation | None:
        if document.id in self.made or document.id in self.broken:
            return self.made.get(document.id)
        self.making.append(document.id)
        try:
            parsed = document.parsed
            made = (
                self._correlation(parsed, document)
                if isinstance(parsed, SigmaCorrelationRule)
                else _rule(parsed, document, self.placeholders)
            )
        except (UnsupportedError, SigmaError) as error:
            elsewhere = isinstance(error, NotApplicableError) and isinstance(document.parsed, SigmaRule)
            wrong = error.wrong if isinstance(error, _LeftOutError) else not elsewhere
            self.problems.append(document.problem(_cause(error), wrong=wrong))
            self.broken[document.id] = wrong
            return None
        finally:
            self.making.pop()
        self.made[document.id] = made
        return made

    def _correlation(self, parsed: SigmaCorrelationRule, document: _Document) -> Correlation:
        members = [(reference, self._member(reference)) for reference in _references(parsed)]
        made = correlation_of(parsed, members, document.file, document.line, document.upper)
        for _, member in members:
            self.feeds.setdefault(member.id, []).append(made.id)
        return made

    def _member(self, reference: str) -> Rule | Correlation:
        document = self.by_reference.get(reference)
        if document is None:
            raise UnsupportedError(f"there is no rule {reference}")
        if document.id in self.making:
            raise UnsupportedError(f"refers to itself through {reference}")
        made = self._make(document)
        if made is None:
            raise _LeftOutError(f"its rule {reference} is left out", wrong=self.broken[document.id])
        return made


def _references(parsed: SigmaCorrelationRule) -> list[str]:
    """What a correlation counts, as its document calls it."""
    if parsed.rules is None and isinstance(parsed.condition, SigmaExtendedCorrelationCondition):
        return list(parsed.condition.get_referenced_rules())
    return [reference.reference for reference in parsed.rules or ()]


def _rule(parsed: Any, document: _Document, placeholders: Placeholders) -> Rule:
    variants = _variants(parsed, placeholders)
    return Rule(
        id=document.id,
        title=parsed.title,
        variants=tuple(variants),
        level=parsed.level.name.lower() if parsed.level else "",
        description=" ".join((parsed.description or "").split()),
        name=parsed.name or "",
        tags=tuple(map(str, parsed.tags)),
        false_positives=tuple(parsed.falsepositives),
        references=tuple(map(str, parsed.references)),
        author=parsed.author or "",
        tests=read_extension(parsed.custom_attributes).tests,
        file=document.file,
        line=document.line,
    )


def _variants(parsed: SigmaRule, placeholders: Placeholders) -> list[Variant]:
    """A rule compiled for each dataset that has its fields. Raises UnsupportedError where none has."""
    variants: list[Variant] = []
    errors: list[UnsupportedError] = []
    for source in datasets_of(parsed.logsource):
        try:
            variants.append(_variant(parsed, source, placeholders))
        except UnsupportedError as error:
            errors.append(error)
    if not variants:
        elsewhere = all(isinstance(error, NotApplicableError) for error in errors)
        raise (NotApplicableError if elsewhere else UnsupportedError)("; ".join(dict.fromkeys(map(str, errors))))
    return variants


def _variant(parsed: SigmaRule, source: LogSource, placeholders: Placeholders) -> Variant:
    compiled = compile_rule(parsed, Names(source.record_field, source.keywords, placeholders))
    compiled = within(compiled, source.where, source.there)
    return Variant(source.dataset, compiled.matches, compiled.required, source.record_field, compiled.cover)


def _documents(name: str, content: bytes, replaced: Replaced, problems: list[Problem]) -> Iterator[_Document]:
    try:
        documents = read_documents(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        problems.append(Problem(name, 0, "", f"not YAML: {error}", whole=True))
        return
    except YamlMistake as error:
        problems.append(Problem(name, error.line, "", error.problem, whole=True))
        return
    for line, written, mistakes in documents:
        raw = replaced.get((name, line), written)
        if raw is None:
            continue
        title = str(raw.get("title", "")) if isinstance(raw, dict) else ""
        cause: str | None = _refusal(raw) or (_twice(mistakes) if raw is written else None)
        if cause is None:
            try:
                readable, upper = without_upper(raw)
                parsed = SigmaCollection.from_dicts([readable], collect_errors=True, collect_filters=True, resolve_references=False)
            except Exception as error:  # pySigma raises many kinds for rules of unexpected shape
                cause = f"not a Sigma rule: {_cause(error)}"
            else:
                if parsed.errors:
                    cause = "; ".join(dict.fromkeys(_cause(error) for error in parsed.errors))
                else:
                    yield from (_Document(name, line, rule, upper) for rule in [*parsed.rules, *parsed.filters])
        if cause is not None:
            problems.append(Problem(name, line, title, cause, str(raw.get("id", "")).lower() if isinstance(raw, dict) else ""))


def _refusal(raw: Any) -> str | None:
    if not isinstance(raw, dict):
        return "a document that is not a mapping"
    if "action" in raw:
        return f"collection action {raw['action']} is not supported; write each rule out"
    return None


def _twice(mistakes: list[tuple[int, str]]) -> str | None:
    """Of keys that stand twice YAML would take the last in silence, and the rule would look for something else."""
    return "; ".join(f"line {line}: {sentence}" for line, sentence in mistakes[:5]) or None


def _cause(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, SigmaError) and error.args else str(error) or type(error).__name__
    # What RE2 says comes as bytes.
    return " ".join(re.sub(r": b'(.*)'$", r": \1", text).split())
