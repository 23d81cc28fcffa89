"""What the errors and answers of Azure's SDKs have in common."""

from __future__ import annotations

__all__ = ["first_line", "retry_after"]

_LONGEST_SECONDS = 3600.0


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 500 characters: what follows is the answer's body or a trace."""
    return str(error).partition("\n")[0][:500]


def retry_after(text: str | None) -> float | None:
    """Retry-After (RFC 9110 section 10.2.3) in seconds, an hour at most; its other form, a date, is left to the back-off."""
    try:
        return max(0.0, min(float(text), _LONGEST_SECONDS)) if text else None
    except ValueError:
        return None
