"""STIX 2.1 bundles: objects of type indicator whose patterns compare for equality.

Format: OASIS STIX 2.1, sections 4.7 (indicator) and 9 (patterning). A pattern becomes indicators where each of them alone would be
a match: comparisons joined by OR, IN lists, observations joined by OR. Of comparisons joined by AND that is so only where one file
is told by its hashes: the hash says it all. Everything else would match more than its author meant and is left out, counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from weir.enrich.intel.lists import IntelError, Report, confidence_of, short_text
from weir.enrich.intel.values import Indicator, classify, time_us

__all__ = ["PatternError", "is_bundle", "parse", "pattern_values"]

_MAX_PATTERN: Final = 20_000
_DEEPEST: Final = 20

# A path may hold quoted parts (file:hashes.'SHA-256'), so it is looked for before strings are.
_TOKEN: Final = re.compile(
    r"""\s*+(?:[a-z0-9-]++:[A-Za-z0-9_-]++(?:\.(?:'[^'\\]*+'|[A-Za-z0-9_-]++)|\[[0-9*]++\])*+
        |'(?:[^'\\]|\\.)*+'|[\[\]()=,]|[^\s\[\]()=,']++|\S)""",
    re.VERBOSE | re.DOTALL,
)
_PATH: Final = re.compile(r"[a-z0-9-]+:[^\s=!<>()\[\],]+")
_VALUE_PATHS: Final = {
    **dict.fromkeys(("ipv4-addr:value", "ipv6-addr:value"), ("ip", "cidr")),
    **dict.fromkeys(
        ("network-traffic:dst_ref.value", "network-traffic:src_ref.value"),
        ("ip", "cidr", "domain"),
    ),
    "domain-name:value": ("domain",),
    "url:value": ("url",),
}
_HASH_PATH: Final = re.compile(r"(?:file|artifact):hashes\.(?:'([^']+)'|\"([^\"]+)\"|([A-Za-z0-9_-]+))")
_HASH_KINDS: Final = {"MD5": "md5", "SHA1": "sha1", "SHA256": "sha256"}


class PatternError(ValueError):
    """A pattern that does not become indicators; one sentence says why."""


def parse(document: Any, report: Report) -> Iterator[Indicator]:
    """The indicators of a bundle, or of a TAXII envelope. Objects that become none are counted in the report.

    Raises:
        IntelError: it is neither.
    """
    if not is_bundle(document) or not isinstance(document.get("objects", []), list):
        raise IntelError("no STIX bundle: type is not 'bundle', or objects is no list")
    for thing in document.get("objects", []):
        if isinstance(thing, dict) and thing.get("type") == "indicator":
            yield from _indicator(thing, report)


def is_bundle(document: Any) -> bool:
    """Whether a JSON document is a bundle, or the answer of a TAXII 2.1 server, which has no type."""
    return isinstance(document, dict) and (document.get("type") == "bundle" or ("type" not in document and "objects" in document))


def _indicator(thing: dict[str, Any], report: Report) -> Iterator[Indicator]:
    place = f"{thing.get('id')!s:.80}"
    pattern = thing.get("pattern")
    if thing.get("revoked") is True:
        report.leave_out(place, "revoked")
        return
    if thing.get("pattern_type", "stix") != "stix" or not isinstance(pattern, str):
        report.leave_out(place, f"a pattern of type {thing.get('pattern_type')!s:.40}")
        return
    try:
        values = pattern_values(pattern)
    except PatternError as error:
        report.leave_out(place, str(error))
        return
    said = [text for text in (thing.get("name"), thing.get("description")) if isinstance(text, str) and text]
    for kind, value in values:
        yield Indicator(
            kind,
            value,
            time_us(thing.get("valid_from")),
            None,
            time_us(thing.get("valid_until")),
            confidence_of(thing.get("confidence")),
            _reference(thing),
            short_text(" - ".join(dict.fromkeys(said))),
        )


def _reference(thing: dict[str, Any]) -> str | None:
    references = thing.get("external_references")
    for reference in references if isinstance(references, list) else ():
        if isinstance(reference, dict) and (found := short_text(reference.get("url"))) is not None:
            return found
    return short_text(thing.get("id"))


def pattern_values(pattern: str) -> list[tuple[str, str]]:
    """Kind and normal value of each indicator that a pattern stands for.

    Raises:
        PatternError: it is no pattern, or one that does not come apart into indicators.
    """
    if len(pattern) > _MAX_PATTERN:
        raise PatternError(f"a pattern of {len(pattern)} characters is longer than {_MAX_PATTERN}")
    parser = _Parser(_tokens(pattern))
    found = parser.observations(0)
    if parser.peek() is not None:
        raise PatternError(f"{parser.peek()!s:.40} behind the observation: only OR is taken apart")
    return list(dict.fromkeys(found))


def _tokens(pattern: str) -> list[str]:
    return [token for match in _TOKEN.finditer(pattern) if (token := match[0].strip())]


class _Parser:
    """Recursive descent over tokens; `_DEEPEST` parentheses at most."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> str | None:
        """The next token; None at the end."""
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, wanted: str | None = None) -> str:
        token = self.peek()
        if token is None or (wanted is not None and token != wanted):
            raise PatternError(f"{token if token is not None else 'the end'!s:.40} stands where {wanted or 'more'} is needed")
        self._at += 1
        return token

    def observations(self, depth: int) -> list[tuple[str, str]]:
        """`[…] OR […]`, in parentheses or not."""
        found = self._observation(depth)
        while self.peek() == "OR":
            self._take()
            found += self._observation(depth)
        return found

    def _observation(self, depth: int) -> list[tuple[str, str]]:
        if depth > _DEEPEST:
            raise PatternError(f"parentheses deeper than {_DEEPEST}")
        if self.peek() == "(":
            self._take()
            found = self.observations(depth + 1)
            self._take(")")
            return found
        self._take("[")
        found = self._any(depth)
        self._take("]")
        return found

    def _any(self, depth: int) -> list[tuple[str, str]]:
        found = self._all(depth)
        while self.peek() == "OR":
            self._take()
            found += self._all(depth)
        return found

    def _all(self, depth: int) -> list[tuple[str, str]]:
        """Comparisons joined by AND: the hashes where all speak of one file, else one comparison alone."""
        begin = self._at
        parts = [self._comparison(depth)]
        while self.peek() == "AND":
            self._take()
            parts.append(self._comparison(depth))
        if len(parts) > 1:
            tokens = self._tokens[begin : self._at]
            subjects = {token.partition(":")[0] for token in tokens if _PATH.fullmatch(token)}
            hashes = [value for part in parts for value in part or () if value[0] in _HASH_KINDS.values()]
            if subjects != {"file"} or not hashes or "(" in tokens:
                raise PatternError("comparisons joined by AND: no one of them alone is a match")
            return hashes
        if parts[0] is None:
            raise PatternError("compares what is looked up in no field")
        return parts[0]

    def _comparison(self, depth: int) -> list[tuple[str, str]] | None:
        """Values that one comparison takes; None where its path is looked up in no field."""
        if depth > _DEEPEST:
            raise PatternError(f"parentheses deeper than {_DEEPEST}")
        if self.peek() == "(":
            self._take()
            found = self._any(depth + 1)
            self._take(")")
            return found
        path, operator = self._take(), self._take()
        if not _PATH.fullmatch(path):
            raise PatternError(f"{path[:40]} is no object path")
        if operator == "=" or (operator == "ISSUBSET" and path.endswith("addr:value")):
            texts = [self._string()]
        elif operator == "IN":
            self._take("(")
            texts = [self._string()]
            while self.peek() == ",":
                self._take()
                texts.append(self._string())
            self._take(")")
        else:
            raise PatternError(f"the operator {operator[:20]}: only comparisons for equality become indicators")
        return _values(path, texts)

    def _string(self) -> str | None:
        token = self._take()
        if token.startswith("'"):
            return re.sub(r"\\(.)", r"\1", token[1:-1])
        if token in {"(", ")", "[", "]", ",", "="}:
            raise PatternError(f"{token} stands where a value is needed")
        return None  # a number or a truth value: of no path that is looked up


def _values(path: str, texts: list[str | None]) -> list[tuple[str, str]] | None:
    if (wanted := _VALUE_PATHS.get(path)) is None:
        match = _HASH_PATH.fullmatch(path)
        name = next((group for group in match.groups() if group), "") if match else ""
        kind = _HASH_KINDS.get(name.upper().replace("-", "").replace("_", ""))
        if kind is None:
            return None
        wanted = (kind,)
    found = []
    for text in texts:
        try:
            value = classify(text or "")
        except ValueError as error:
            raise PatternError(str(error)) from error
        if value[0] not in wanted:
            raise PatternError(f"{text!s:.60} is no value of {path}")
        found.append(value)
    return found
