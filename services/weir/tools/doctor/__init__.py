"""`weir doctor`: is everything in place, and does an event get through?

It looks at settings, brokers, topics, this host, certificates and destinations, then sends a marked event through each stage and
waits for it at the other end. Each failure comes with its cure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from weir.ops.settings import ServiceSettings
from weir.tools.doctor import certificates, configuration, destinations, kafka, machine, marked
from weir.tools.doctor.finding import Finding, Status, skipped
from weir.tools.doctor.senders import Client, Marked, send_all

__all__ = ["Client", "Finding", "Plan", "Status", "examine"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: `send` marked events and wait `seconds` for them; `alert` sends a test alert across the WAN as well."""

    send: bool = True
    alert: bool = False
    seconds: float = 30.0
    client: Client = field(default_factory=Client)


def examine(
    plan: Plan,
    classes: Mapping[str, str],
    complete: Callable[[], object],
    told: Callable[[str], None] = lambda _: None,
) -> list[Finding]:
    """Everything the doctor finds, in the order of the data path.

    Args:
        plan: what to do.
        classes: settings class by module, as the command line knows them.
        complete: makes the settings of all services known.
        told: is given one line of progress at each step.
    """
    told("settings")
    found, findings = configuration.examine(classes, complete)
    services = found.services
    general = found.general or next(iter(services.values()), None)
    if general is None:
        return findings
    told("Kafka")
    findings += kafka.examine(general)
    broken = any(one.area in {"kafka", "topics"} and one.status is Status.FAILED for one in findings)
    told("this host")
    findings += machine.examine(services, plan.client.host)
    ports = machine.listeners(services)
    told("certificates")
    findings += certificates.examine(services, ports, plan.client.target)
    told("destinations")
    findings += destinations.examine(services)
    if not plan.send:
        findings.append(skipped("marked event", "all", "not sent: --no-send"))
    elif broken:
        findings.append(skipped("marked event", "all", "not sent: Kafka or its topics have to be put right first"))
    else:
        told("marked events")
        findings += _marked(plan, general, ports, services, told)
    return findings


def _marked(
    plan: Plan,
    general: ServiceSettings,
    ports: list[machine.Listener],
    services: Mapping[str, ServiceSettings],
    told: Callable[[str], None],
) -> list[Finding]:
    sinks = _topics_of_sinks(services)
    # With a host named, its ports are believed; without, what nobody listens on was told of already.
    listening = ports if plan.client.host else [one for one in ports if machine.is_open(one)]

    client = plan.client if plan.client.http_token else replace(plan.client, http_token=_token_of(services))

    def send() -> list[Marked]:
        sent = send_all(listening, client)
        return [*sent, marked.publish_test_alert(general, sent[0].needle.hex() if sent else "")] if plan.alert else sent

    return marked.follow(general, send, sinks, plan.seconds, told)


def _token_of(services: Mapping[str, ServiceSettings]) -> str | None:
    """A token that the HTTP port takes, by its own settings; None where it wants none, or this user may not read it."""
    settings: Any = services.get("receive.beats")
    if settings is None:
        return None
    if settings.http_token is not None:
        return str(settings.http_token.get_secret_value())
    try:
        lines = settings.http_token_file.read_text(encoding="utf-8").splitlines() if settings.http_token_file else []
    except (OSError, ValueError):
        return None
    return next((line.strip() for line in lines if line.strip()), None)


def _topics_of_sinks(services: Mapping[str, ServiceSettings]) -> dict[str, set[str]]:
    from weir.sinks.settings import split_topics  # noqa: PLC0415 - not every host has a sink

    sinks = {}
    for service, settings in services.items():
        stage, _, kind = service.partition(".")
        if stage == "sink":
            given: Any = getattr(settings, f"{kind}_topics", "")
            sinks[service] = set(split_topics(f"WEIR_{kind.upper()}_TOPICS", given))
    return sinks
