"""What is raised for settings that do not work; apart from the settings, which take their time to load."""

from __future__ import annotations

__all__ = ["SettingsError"]


class SettingsError(Exception):
    """Settings that do not work; `mistakes` holds one sentence each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes
