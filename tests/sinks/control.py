"""Telling stand-ins what to do, and asking them what they saw."""

from __future__ import annotations

import ssl
import urllib.request
from typing import Any

import orjson

from weir.local.standins.server import HttpStandIn

__all__ = ["ids", "stats", "tell"]

# The control port shows a certificate of the stand-in's own authority; who it is does not matter here.
_ANY = ssl._create_unverified_context()


def _ask(url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data=body)
    with urllib.request.urlopen(request, timeout=10, context=_ANY if url.startswith("https") else None) as answer:
        return bytes(answer.read())


def tell(server: HttpStandIn, **wishes: Any) -> None:
    _ask(f"{server.url}/_control", orjson.dumps(wishes))


def stats(server: HttpStandIn) -> dict[str, Any]:
    return dict(orjson.loads(_ask(f"{server.url}/_stats")))


def ids(server: HttpStandIn, table: str = "") -> set[str]:
    return set(_ask(f"{server.url}/_ids?table={table}").decode().split())
