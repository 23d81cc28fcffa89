"""Reading record fields by name.

| name                       | what it reads                                                                                    |
|----------------------------|--------------------------------------------------------------------------------------------------|
| `user_name`                | the record field                                                                                 |
| `labels.team`              | an entry of a map field                                                                          |
| `document.certificate.age` | an entry of a text field that holds JSON, nested or with dots in its own name                    |
| `threat_enrichments.type`  | the same of each text of a list                                                                  |
| `url_original:query`       | a part that is worked out: `path`, `query`, `extension`, or `forms` (with and without the host)  |
| `timestamp|event_created`  | the first of several that is there                                                               |

What a list of objects holds under a name is a list. An empty list counts as not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

__all__ = ["PARTS", "Getter", "fold", "getter", "text_of"]

Record = dict[str, Any]
Getter = Callable[[Record], Any]


def fold(text: str) -> str:
    """Text as it is compared without regard to case: Unicode's full case folding, in which the German sharp s is ss."""
    return text.casefold()


def text_of(value: Any) -> str:
    """A value as rules see its text: true and false in lower case, numbers as they are written."""
    if value.__class__ is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def getter(name: str) -> Getter:
    """What reads this name from a record; None where nothing is there. Raises ValueError for a part that nobody works out."""
    if "|" in name:
        return _first([getter(one) for one in name.split("|")])
    if ":" in name:
        field, _, part = name.partition(":")
        if part not in PARTS:
            raise ValueError(f"{name}: parts are {', '.join(sorted(PARTS))}")
        work_out = PARTS[part]

        def worked_out(record: Record) -> Any:
            found = record.get(field)
            return work_out(found, record) if isinstance(found, str) else None

        return worked_out
    field, dot, key = name.partition(".")
    if not dot:
        return lambda record: found if (found := record.get(field)) != [] else None

    def nested(record: Record) -> Any:
        return _entry(record.get(field), key)

    return nested


def _first(getters: list[Getter]) -> Getter:
    def first(record: Record) -> Any:
        for read in getters:
            found = read(record)
            if found is not None:
                return found
        return None

    return first


# The JSON text that was parsed last, with its value: the rules that an event is tried with ask for the same one.
_last: list[tuple[str, Any]] = [("", None)]


def _parsed(text: str) -> Any:
    known, value = _last[0]
    if known is text:
        return value
    value = None
    if text.startswith("{"):
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = None
    _last[0] = (text, value)
    return value


_DEEPEST: Final = 64
"""Lists and objects within each other that a name is looked for in; senders may nest a thousand. Nothing is found below."""


def _entry(found: Any, key: str, depth: int = 0) -> Any:
    """What stands under a dotted key: the longest name that is there is taken whole, the rest is looked up within it."""
    if depth > _DEEPEST:
        return None
    if found.__class__ is str:
        found = _parsed(found)
    if isinstance(found, list):
        entries = [entry for item in found if (entry := _entry(item, key, depth + 1)) is not None]
        return [one for entry in entries for one in (entry if isinstance(entry, list) else (entry,))] or None
    if not isinstance(found, Mapping):
        return None
    if key in found:
        value = found[key]
        return None if value == [] else value
    cut = key.rfind(".")
    while cut > 0:
        if (inner := found.get(key[:cut])) is not None:
            return _entry(inner, key[cut + 1 :], depth + 1)
        cut = key.rfind(".", 0, cut)
    return None


def _split(url: str) -> tuple[str, str, str, str | None]:
    """Scheme with its slashes, host, path, query: of a whole URL or of a request's target. A fragment is dropped."""
    scheme, slashes, rest = url.partition("://")
    if slashes and scheme.isalnum():
        host, slash, rest = rest.partition("/")
        if "?" in host:
            host, _, query = host.partition("?")
            slash, rest = "", "?" + query
        path, scheme = slash + rest, scheme + slashes
    else:
        scheme, host, path = "", "", url
    path, question, query = path.partition("#")[0].partition("?")
    return scheme, host, path, query if question else None


def _path(url: str, record: Record) -> str | None:
    return _split(url)[2] or None


def _query(url: str, record: Record) -> str | None:
    return _split(url)[3]


def _extension(url: str, record: Record) -> str | None:
    """What stands behind the last dot of the last name in the path, without the dot."""
    _, dot, extension = _split(url)[2].rpartition("/")[2].rpartition(".")
    return extension if dot else None


def _forms(url: str, record: Record) -> list[str]:
    """Both ways in which proxies write a URL: with scheme and host, and from the path on."""
    scheme, _, path, query = _split(url)
    if scheme:
        return [url, path or "/"] if query is None else [url, f"{path or '/'}?{query}"]
    host = record.get("url_domain")
    return [url, f"http://{host}{'' if url.startswith('/') else '/'}{url}"] if host else [url]


PARTS: Final[Mapping[str, Callable[[str, Record], Any]]] = {
    "path": _path, "query": _query, "extension": _extension, "forms": _forms,
}  # fmt: skip
