"""The names that alerts call things by, written down once: rules may use no others, and sinks know what each means.

A rule says `weir: {entities: {user: user.name}}`: the alert's entity `user` has the value of the event field `user.name`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from weir.model.yamlfile import meant

__all__ = ["ENTITIES", "Entity", "unknown_entity"]


class Entity(NamedTuple):
    """What an entity is.

    Attributes:
        meaning: for people.
        ecs: field of the Elastic Common Schema; "" where none fits.
        asim: field of ASIM's AlertEvent schema 0.1; "" where it has none.
        indicator: IndicatorType of ASIM's AlertEvent; "" where none of its twelve fits.
        cef: key of the CEF extension; "" where none fits. Of addresses, that of IPv4.
    """

    meaning: str
    ecs: str = ""
    asim: str = ""
    indicator: str = ""
    cef: str = ""


ENTITIES: Final[Mapping[str, Entity]] = {
    "user": Entity("who did it, by name", "user.name", "Username", "User", "suser"),
    "user_id": Entity("who did it, by SID, UID or the source's own id", "user.id", "UserId", "User", "suid"),
    "user_domain": Entity("domain of the user", "user.domain", "", "", "sntdom"),
    "target_user": Entity("whom it was done to", "user.target.name", "", "User", "duser"),
    "host": Entity("machine that it happened on", "host.name", "DvcHostname", "Host", "dhost"),
    "source_address": Entity("address it came from", "source.ip", "DvcIpAddr", "Ip", "src"),
    "source_host": Entity("name of the machine it came from", "source.domain", "", "Host", "shost"),
    "source_port": Entity("port it came from", "source.port", "", "", "spt"),
    "destination_address": Entity("address it went to", "destination.ip", "", "Ip", "dst"),
    "destination_host": Entity("name of the machine it went to", "destination.domain", "", "Host", "dhost"),
    "destination_port": Entity("port it went to", "destination.port", "", "", "dpt"),
    "mac_address": Entity("hardware address it came from", "source.mac", "", "", "smac"),
    "transport": Entity("transport protocol", "network.transport", "", "", "proto"),
    "application": Entity("application protocol, or program", "network.application", "", "Application", "app"),
    "service": Entity("service that was used", "service.name", "", "Application", "destinationServiceName"),
    "virtual_service": Entity("virtual service of a load balancer", "", "", "Application"),
    "network": Entity("network by its name in the operator's tables", "", "", ""),
    "location": Entity("country or place", "source.geo.country_iso_code"),
    "file": Entity("path of the file", "file.path", "FilePath", "File", "filePath"),
    "target_file": Entity("path of the file after renaming or copying", "", "", "File"),
    "hash": Entity("hash of the file", "file.hash.sha256", "", "File", "fileHash"),
    "process": Entity("program", "process.name", "ProcessName", "Process", "sproc"),
    "command_line": Entity("how the program was called", "process.command_line", "ProcessCommandLine", "Process"),
    "url": Entity("address of a web page, or its path", "url.original", "Url", "Url", "request"),
    "domain": Entity("domain name that was asked for or visited", "url.domain", "", "Host", "destinationDnsDomain"),
    "user_agent": Entity("program that asked, as it calls itself", "user_agent.original", "", "", "requestClientApplication"),
    "email": Entity("e-mail address", "email.from.address", "", "Email"),
    "signature": Entity("signature of an intrusion detection system", "", "", ""),
    "indicator": Entity("what threat intelligence names", "threat.indicator.name", "", ""),
    "sensor": Entity("device that saw it", "observer.name", "", "Host", "dvchost"),
    "exporter": Entity("device that exports flows", "observer.ip", "", "Ip", "dvc"),
    "sender": Entity("who sends to Weir, by address or name", "log.source.address", "", ""),
    "component": Entity("service of Weir's pipeline", "", "", ""),
    "topic": Entity("topic in Kafka", "", "", ""),
    "dataset": Entity("dataset of the events", "event.dataset", "", ""),
}
"""By name. Values are texts; a list of addresses in one event is one text with commas."""


def unknown_entity(name: str) -> str | None:
    """What is wrong with an entity's name, or None where it is one of the vocabulary."""
    if name in ENTITIES:
        return None
    return f"{name} is not an entity{meant(name, ENTITIES)}; docs/alerts.md lists them"
