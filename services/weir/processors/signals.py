"""The rules' single-event part as the processors use it."""

from __future__ import annotations

from weir.processors.runtime import SignalSource

__all__ = ["load_signal_source"]


def load_signal_source(rules_dir: str | None) -> SignalSource | None:
    """The rules in a folder, or those that come with Weir."""
    del rules_dir
    return None
