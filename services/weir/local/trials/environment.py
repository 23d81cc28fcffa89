"""The environment of a trial: what is set around it counts for nothing in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["own_settings"]

# Where this machine keeps what it has downloaded, and the like.
_KEPT = {"WEIR_CACHE_DIR", "WEIR_CORPUS"}


@contextmanager
def own_settings(*own: str) -> Iterator[None]:
    """Take settings of services out of the environment meanwhile; those named here are the trial's, and gone after it."""
    before = {name: value for name, value in os.environ.items() if name.startswith("WEIR_") and name not in _KEPT}
    for name in before:
        del os.environ[name]
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)
        os.environ.update(before)
