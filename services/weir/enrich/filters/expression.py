"""The language of `when:`: a condition on the fields of an event, compiled to closures. Nothing in it is evaluated as Python.

    condition  = all { "or" all }
    all        = negation { "and" negation }
    negation   = "not" negation | "(" condition ")" | test
    test       = field "exists"
               | field ("==" | "!=" | "<" | "<=" | ">" | ">=") value
               | field ["not"] "in" (list | network)
               | field ["not"] ("contains" | "startswith" | "endswith" | "matches") text
    field      = name of a field, or name.key or name["key"] of one that holds pairs
    value      = "text" | 'text' | number | address | true | false | null
    list       = "[" [ value or network { "," value or network } ] "]"
    network    = 10.0.0.0/8, 2001:db8::/32

An absent field fulfils no test but `!=`, `not …` and `== null`. Length, depth and number of values are bounded, and `matches` takes
glob patterns rather than regular expressions, so that no rule can make an event cost more than its length times the pattern's.
"""

from __future__ import annotations

import difflib
import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, NamedTuple, NoReturn

from weir.enrich.networks import Network, NetworkSet
from weir.model.sources import network_of

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "MAX_VALUES", "ExpressionError", "Kind", "Test", "compile_expression"]

Record = dict[str, Any]
Test = Callable[[Record], bool]

MAX_LENGTH: Final = 4_000
MAX_DEPTH: Final = 30
MAX_VALUES: Final = 1_000

_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TEXT_TESTS: Final = ("contains", "startswith", "endswith", "matches")
_WORDS: Final = frozenset({"and", "or", "not", "in", "exists", "true", "false", "null", *_TEXT_TESTS})
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
      | (?P<text>"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+')
      | (?P<address>(?:(?:\d{1,3}\.){3}\d{1,3}|(?=[0-9A-Fa-f]*:)[0-9A-Fa-f:]+(?:\.[0-9.]+)?)(?:/\d{1,3})?(?![\w.]))
      | (?P<number>-?\d+(?:\.\d+)?(?![\w.]))
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*+)
      | (?P<sign>==|!=|<=|>=|[<>()\[\],.])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


class ExpressionError(ValueError):
    """An expression that is none; `position` is the character, from 0, where that shows."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


class Kind(Enum):
    """What a field holds."""

    TEXT = auto()
    NUMBER = auto()
    FLAG = auto()
    LIST = auto()
    PAIRS = auto()


class _Token(NamedTuple):
    kind: str
    text: str
    position: int

    @property
    def shown(self) -> str:
        return f"`{self.text}`" if self.text else "the end"


@dataclass(frozen=True, slots=True)
class _Field:
    """A field as it is named in a condition: what of a record it is, and what kind that is."""

    name: str
    kind: Kind
    get: Callable[[Record], Any]
    position: int


def compile_expression(text: str, fields: Mapping[str, Kind], of: str = "these events") -> Test:
    """The test that a text describes.

    Args:
        fields: kinds of the fields that may be named.
        of: whose fields these are, for messages.

    Raises:
        ExpressionError: for any text that is no condition on these fields.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression may have {MAX_LENGTH:,} characters; this one has {len(text):,}", MAX_LENGTH)
    return _Parser(_tokens(text), fields, of).whole()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExpressionError(_stray(text[position]), position)
        if match.lastgroup != "space":
            found.append(_Token(str(match.lastgroup), match[0], position))
        position = match.end()
    found.append(_Token("end", "", len(text)))
    return found


def _stray(character: str) -> str:
    if character in "\"'":
        return "this text has no end: close it with the same quotation mark"
    if character == "=":
        return "`=` is not an operator; equality is `==`"
    if character in "&|!":
        return f"`{character}` is not an operator; write and, or, not"
    if character.isdigit():
        return "a number, an address or a CIDR range was begun here and is none; text is written in quotation marks"
    return f"{character!r} has no meaning here; text is written in quotation marks"


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, tokens: list[_Token], fields: Mapping[str, Kind], of: str) -> None:
        self._tokens = tokens
        self._fields = fields
        self._of = of
        self._at = 0
        self._depth = 0

    # --- tokens --------------------------------------------------------------------------------------------------------------

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def _accept(self, text: str) -> bool:
        """Whether this word or sign comes next; if so, it is taken."""
        token = self._next
        if token.kind in {"word", "sign"} and token.text == text:
            self._at += 1
            return True
        return False

    def _fail(self, message: str, position: int | None = None) -> NoReturn:
        raise ExpressionError(message, self._next.position if position is None else position)

    # --- conditions ----------------------------------------------------------------------------------------------------------

    def whole(self) -> Test:
        """The whole expression."""
        test = self._any()
        if self._next.kind != "end":
            self._fail(f"{self._next.shown} is too much: conditions are joined by and, or")
        return test

    def _any(self) -> Test:
        return self._joined("or", self._all, any)

    def _all(self) -> Test:
        return self._joined("and", self._negation, all)

    def _joined(self, word: str, part: Callable[[], Test], combine: Callable[[Iterable[bool]], bool]) -> Test:
        tests = [part()]
        while self._accept(word):
            tests.append(part())
        if len(tests) == 1:
            return tests[0]
        if len(tests) == 2:
            one, other = tests
            return (lambda record: one(record) or other(record)) if word == "or" else (lambda record: one(record) and other(record))
        return lambda record: combine(test(record) for test in tests)

    def _negation(self) -> Test:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"conditions lie more than {MAX_DEPTH} deep within each other: make two rules of this one")
        try:
            if self._accept("not"):
                inner = self._negation()
                return lambda record: not inner(record)
            if self._accept("("):
                test = self._any()
                if not self._accept(")"):
                    self._fail(f"{self._next.shown} stands where `)` closes the condition, or and, or go on")
                return test
            return self._test()
        finally:
            self._depth -= 1

    def _test(self) -> Test:
        field = self._field()
        if self._accept("exists"):
            get = field.get
            return lambda record: get(record) not in (None, [], {}, ())
        negated = self._accept("not")
        token = self._take()
        if token.text == "in" and token.kind == "word":
            test = self._membership(field)
        elif token.text in _TEXT_TESTS and token.kind == "word":
            test = self._text_test(field, token)
        elif negated:
            self._fail(f"{token.shown} cannot follow `not`; here that can be in, {', '.join(_TEXT_TESTS)}", token.position)
        elif token.text in {"==", "!="}:
            test = self._equality(field, token)
        elif token.text in _ORDER and token.kind == "sign":
            return self._comparison(field, token)
        else:
            wanted = f"==, !=, <, <=, >, >=, in, {', '.join(_TEXT_TESTS)}, exists"
            self._fail(f"{token.shown} stands where an operator must: {wanted}", token.position)
        if negated or token.text == "!=":
            return lambda record: not test(record)
        return test

    # --- fields --------------------------------------------------------------------------------------------------------------

    def _field(self) -> _Field:
        token = self._take()
        if token.kind != "word" or token.text in _WORDS:
            self._fail(f"{token.shown} stands where the name of a field must", token.position)
        name = token.text
        kind = self._fields.get(name)
        if kind is None:
            close = difflib.get_close_matches(name, self._fields, n=1, cutoff=0.6)
            meant = f"; did you mean {close[0]}?" if close else ""
            self._fail(f"{name} is not a field of {self._of}{meant}", token.position)
        if kind is not Kind.PAIRS:
            return _Field(name, kind, operator.methodcaller("get", name), token.position)
        key = self._key()
        if key is None:
            if self._next.text != "exists":
                self._fail(f'{name} holds pairs: say which one, as in {name}.key or {name}["key"]', token.position)
            return _Field(name, kind, operator.methodcaller("get", name), token.position)

        def pair(record: Record) -> Any:
            pairs = record.get(name)
            return pairs.get(key) if pairs else None

        return _Field(f"{name}.{key}", Kind.TEXT, pair, token.position)

    def _key(self) -> str | None:
        if self._accept("."):
            parts = []
            while True:
                token = self._take()
                if token.kind not in {"word", "number"}:
                    self._fail(f'{token.shown} is no key; write other keys as ["…"]', token.position)
                parts.append(token.text)
                if not self._accept("."):
                    return ".".join(parts)
        if self._accept("["):
            token = self._take()
            if token.kind != "text" or not self._accept("]"):
                self._fail('a key is written as ["key"]', token.position)
            return _unquoted(token.text)
        return None

    # --- values --------------------------------------------------------------------------------------------------------------

    def _value(self) -> Any:
        """Text, int, float, bool or None; a network for a CIDR range."""
        token = self._take()
        if token.kind == "text":
            return _unquoted(token.text)
        if token.kind == "number":
            return float(token.text) if "." in token.text else int(token.text)
        if token.kind == "address":
            try:
                network = network_of(token.text)
            except ValueError as error:
                self._fail(str(error), token.position)
            return network if "/" in token.text else str(network.network_address)
        if token.kind == "word" and token.text in _CONSTANTS:
            return _CONSTANTS[token.text]
        meant = f'; text is written in quotation marks: "{token.text}"' if token.kind == "word" else ""
        self._fail(f"{token.shown} stands where a value must{meant}", token.position)

    def _fitting(self, field: _Field, value: Any, position: int) -> None:
        """Fail where a field can never have this value."""
        if value is None:
            return
        fits = {Kind.TEXT: str, Kind.LIST: str, Kind.FLAG: bool}.get(field.kind)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if field.kind is Kind.NUMBER and not number:
            self._fail(f"{field.name} is a number; write it without quotation marks", position)
        if field.kind is Kind.FLAG and not isinstance(value, bool):
            self._fail(f"{field.name} is true or false", position)
        if fits is str and not isinstance(value, str):
            self._fail(f"{field.name} is text; write it in quotation marks", position)

    def _equality(self, field: _Field, sign: _Token) -> Test:
        position = self._next.position
        value = self._value()
        if isinstance(value, Network):
            self._fail(f"a CIDR range is asked for with in: {field.name} in {value}", position)
        if field.kind is Kind.LIST and value is not None:
            self._fail(f'{field.name} is a list: {field.name} contains "…"', sign.position)
        self._fitting(field, value, position)
        get = field.get
        if value is None:
            return lambda record: get(record) in (None, [], ())
        return lambda record: bool(get(record) == value)

    def _comparison(self, field: _Field, sign: _Token) -> Test:
        position = self._next.position
        value = self._value()
        if field.kind is not Kind.NUMBER:
            self._fail(f"{field.name} is no number: {sign.text} compares numbers only", sign.position)
        if value is None:
            self._fail(f"null is neither more nor less than a number; write {field.name} == null", position)
        self._fitting(field, value, position)
        get, compare = field.get, _ORDER[sign.text]

        def test(record: Record) -> bool:
            found = get(record)
            return found is not None and compare(found, value)

        return test

    def _membership(self, field: _Field) -> Test:
        position = self._next.position
        if self._next.text != "[":
            value = self._value()
            if isinstance(value, str) and field.kind is Kind.TEXT:
                try:
                    value = network_of(value)
                except ValueError:
                    self._fail('in asks for a list, as in ["a", "b"], or a CIDR range; for a part of a text: contains', position)
            values = [value]
            if not isinstance(value, Network):
                self._fail("in asks for a list, as in [22, 23], or a CIDR range", position)
        else:
            values = self._list()
        networks = [v for v in values if isinstance(v, Network)]
        plain = [v for v in values if not isinstance(v, Network)]
        if networks:
            if field.kind is not Kind.TEXT:
                self._fail(f"{field.name} holds no address", field.position)
            try:
                networks += [network_of(value) for value in plain]
            except (ValueError, TypeError):
                self._fail("a list with a CIDR range can have only addresses and CIDR ranges", position)
            return _within(field.get, networks)
        for value in plain:
            if value is None:
                self._fail(f"null cannot be in a list; write {field.name} == null", position)
            self._fitting(field, value, position)
        get, wanted = field.get, frozenset(plain)
        if field.kind is Kind.LIST:
            return lambda record: not wanted.isdisjoint(get(record) or ())
        return lambda record: get(record) in wanted

    def _list(self) -> list[Any]:
        self._accept("[")
        values: list[Any] = []
        while not self._accept("]"):
            if values and not self._accept(","):
                self._fail(f"{self._next.shown} stands where `,` or `]` must")
            if len(values) >= MAX_VALUES:
                self._fail(f"a list may have {MAX_VALUES:,} values")
            values.append(self._value())
        if not values:
            self._fail("a list without values matches nothing")
        return values

    def _text_test(self, field: _Field, word: _Token) -> Test:
        position = self._next.position
        value = self._value()
        if not isinstance(value, str):
            self._fail(f"{word.text} asks for text in quotation marks", position)
        if field.kind not in {Kind.TEXT, Kind.LIST}:
            self._fail(f"{field.name} is no text: {word.text} does not apply", word.position)
        get = field.get
        if field.kind is Kind.LIST:
            if word.text == "contains":
                return lambda record: value in (get(record) or ())
            self._fail(f"{field.name} is a list: contains is what can be asked", word.position)
        return _TEXT[word.text](get, value)


def _contains(get: Callable[[Record], Any], part: str) -> Test:
    return lambda record: (text := get(record)) is not None and part in text


def _starts(get: Callable[[Record], Any], start: str) -> Test:
    return lambda record: (text := get(record)) is not None and text.startswith(start)


def _ends(get: Callable[[Record], Any], end: str) -> Test:
    return lambda record: (text := get(record)) is not None and text.endswith(end)


def _matches(get: Callable[[Record], Any], pattern: str) -> Test:
    match = re.compile(fnmatch.translate(pattern)).match
    return lambda record: (text := get(record)) is not None and match(text) is not None


_TEXT: Final = {"contains": _contains, "startswith": _starts, "endswith": _ends, "matches": _matches}


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(r"\1", text[1:-1])


def _within(get: Callable[[Record], Any], networks: list[Network]) -> Test:
    """Whether a field is an address in one of these networks."""
    inside = NetworkSet(networks)
    return lambda record: (text := get(record)) is not None and inside[text] is True
