"""Loading a folder of Sigma rules: what can be evaluated is compiled, everything else is named with its file, line and cause.

A file holds YAML documents: rules, and correlations that refer to rules or other correlations by name or id, in the same file or
another. A rule raises alerts by itself unless a correlation refers to it; `generate: true` in that correlation lets it do both.
Beside Sigma's own keys a document may have a mapping `weir` (`extension`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

from weir.detect.attack import attack_of
from weir.detect.correlating import alone, correlation_of
from weir.detect.extension import read_extension
from weir.detect.logsources import LogSource, NotApplicableError, datasets_of
from weir.detect.matcher import UnsupportedError, compile_rule
from weir.detect.rules import Correlation, Problem, Rule, RuleSet, Variant

__all__ = ["DEFAULT_RULES", "load_rules", "parsed_rules"]

DEFAULT_RULES = Path(__file__).parent / "rules"
MAX_FILE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class _Document:
    file: str
    line: int
    parsed: SigmaRule | SigmaCorrelationRule

    @property
    def id(self) -> str:
        return str(self.parsed.id)

    def problem(self, cause: str, *, wrong: bool = True) -> Problem:
        return Problem(self.file, self.line, self.parsed.title, cause, wrong)


class _LeftOutError(UnsupportedError):
    """A correlation counts what is left out; `wrong` as in the problem that this one follows from."""

    def __init__(self, message: str, *, wrong: bool) -> None:
        super().__init__(message)
        self.wrong = wrong


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
    for name, content in _files(root):
        digest.update(f"{len(name)} {name} {len(content)} ".encode() + content)
        documents.extend(_documents(name, content, problems))
    kept = list(_with_ids_of_their_own(documents, problems))
    return _Assembly(kept, problems).rule_set(digest.hexdigest()[:16])


def parsed_rules(folder: Path | str | None = None) -> dict[str, SigmaRule]:
    """The rules of a folder that `load_rules` takes, by id, as pySigma parsed them: for those who explain what a rule means.

    A rule set does not keep them; thousands of parsed rules are too much to hold in every processor.
    """
    found: dict[str, SigmaRule] = {}
    for name, content in _files(Path(folder) if folder is not None else DEFAULT_RULES):
        for document in _documents(name, content, []):
            if isinstance(document.parsed, SigmaRule):
                found.setdefault(document.id, document.parsed)
    return found


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Name within the folder and content of each rule file."""
    for path in sorted(p for p in root.rglob("*") if p.suffix in {".yml", ".yaml"} and p.is_file()):
        yield path.relative_to(root).as_posix(), path.read_bytes()


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

    def __init__(self, documents: list[_Document], problems: list[Problem]) -> None:
        self.documents = documents
        self.problems = problems
        self.by_reference: dict[str, _Document] = {}
        for document in documents:
            self.by_reference[document.id] = document
            if document.parsed.name:
                self.by_reference.setdefault(document.parsed.name, document)
        self.made: dict[str, Rule | Correlation] = {}
        # By id, whether what is left out is wrong, or only about other events than ours.
        self.broken: dict[str, bool] = {}
        self.making: list[str] = []
        # By id of what is referred to, the correlations that do, and whether one of them leaves it its own alerts.
        self.feeds: dict[str, list[str]] = {}
        self.generated: set[str] = set()

    def rule_set(self, version: str) -> RuleSet:
        for document in self.documents:
            if self._make(document) is not None and (unknown := attack_of(map(str, document.parsed.tags)).unknown):
                self.problems.append(document.problem(f"{', '.join(unknown)}: no tactic or technique of MITRE ATT&CK; left out"))
        correlations = []
        for document in self.documents:
            made = self.made.get(document.id)
            announce = document.id not in self.feeds or document.id in self.generated
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
            made = _rule(parsed, document) if isinstance(parsed, SigmaRule) else self._correlation(parsed, document)
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
        references = [reference.reference for reference in (parsed.rules or parsed.referenced_rules or [])]
        members = [(reference, self._member(reference)) for reference in references]
        made = correlation_of(parsed, members, document.file, document.line)
        for _, member in members:
            self.feeds.setdefault(member.id, []).append(made.id)
            if parsed.generate:
                self.generated.add(member.id)
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


def _rule(parsed: SigmaRule, document: _Document) -> Rule:
    variants: list[Variant] = []
    errors: list[UnsupportedError] = []
    for source in datasets_of(parsed.logsource):
        try:
            variants.append(_variant(parsed, source))
        except UnsupportedError as error:
            errors.append(error)
    if not variants:
        applicable = any(not isinstance(error, NotApplicableError) for error in errors)
        raise (UnsupportedError if applicable else NotApplicableError)("; ".join(dict.fromkeys(map(str, errors))))
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


def _variant(parsed: SigmaRule, source: LogSource) -> Variant:
    compiled = compile_rule(parsed, source.record_field)
    where, inner = tuple(source.where.items()), compiled.matches

    def matches(record: Mapping[str, Any]) -> bool:
        return all(record.get(name) == value for name, value in where) and inner(record)  # type: ignore[arg-type]

    return Variant(
        dataset=source.dataset,
        matches=matches if where else inner,
        required={name: frozenset({value.lower()}) for name, value in where} | compiled.required,
        record_field=source.record_field,
    )


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
