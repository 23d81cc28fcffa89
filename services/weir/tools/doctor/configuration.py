"""Which services this configuration is for, and whether it would let them start."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name

import yaml

from weir.ops.settings import PREFIX, ServiceSettings, SettingsError, load
from weir.tools.doctor.finding import Finding, Status, failed, good, skipped

__all__ = ["Configuration", "examine"]

AREA = "settings"
# A destination that no setting speaks of is not meant to be used from here.
_MARKS = {"sentinel": "sentinel_", "adx": "adx_", "siem": "siem_"}


@dataclass(slots=True)
class Configuration:
    """Settings by service name ("receive.syslog", "sink.adx"), of those that could start."""

    general: ServiceSettings | None = None
    services: dict[str, ServiceSettings] = field(default_factory=dict)


def _given_names() -> set[str]:
    names = {name.removeprefix(PREFIX).lower() for name in os.environ if name.startswith(PREFIX)}
    path = os.environ.get(f"{PREFIX}CONFIG")
    if path and Path(path).is_file():
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError):
            return names  # `load` says what is wrong with it
        if isinstance(content, dict):
            names |= {str(name) for name in content}
    return names


def examine(classes: Mapping[str, str], complete: Callable[[], object]) -> tuple[Configuration, list[Finding]]:
    """Load the settings of every service.

    Args:
        classes: settings class by module, as the command line knows them.
        complete: makes the settings of all services known.
    """
    found = Configuration()
    findings: list[Finding] = []
    try:
        found.general = load(ServiceSettings, complete=complete)
    except SettingsError as error:
        findings += _mistakes("all services", error)
    given = _given_names()
    said = {finding.text for finding in findings}
    for service, name in _services(classes):
        mark = _MARKS.get(service.partition(".")[2])
        if mark is not None and not any(one.startswith(mark) for one in given):
            findings.append(skipped(AREA, service, f"not configured: no {PREFIX}{mark.upper()}… setting is given"))
            continue
        try:
            found.services[service] = load(resolve_name(name), complete=complete)
        except SettingsError as error:
            findings += [finding for finding in _mistakes(service, error) if finding.text not in said]
        else:
            findings.append(good(AREA, service, "would start with these settings"))
    return found, _together(findings)


def _together(findings: list[Finding]) -> list[Finding]:
    """One finding for a mistake that several services share, with the names of all."""
    merged: dict[tuple[str, str], Finding] = {}
    for number, one in enumerate(findings):
        key = (one.text, one.cure) if one.status is Status.FAILED else (str(number), "")
        before = merged.get(key)
        merged[key] = one if before is None else replace(before, name=f"{before.name}, {one.name}")
    return list(merged.values())


def _services(classes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    stages = {"receivers": "receive", "processors": "process", "sinks": "sink"}
    for module, name in classes.items():
        _, stage, kind = module.split(".")
        yield f"{stages[stage]}.{kind}", name


def _mistakes(service: str, error: SettingsError) -> list[Finding]:
    return [
        failed(AREA, service, mistake, "docs/settings.md tells what each setting means; `weir settings` prints it")
        for mistake in error.mistakes
    ]
