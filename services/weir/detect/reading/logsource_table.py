"""The table behind `logsources`: Sigma's log sources, the datasets that they are found in, and the names of their fields there.

Names are those of Sigma's taxonomy and of the rules in its public collection; what they are mapped to is read by `fields.getter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

__all__ = ["TABLE", "TAXONOMY", "Row", "Target", "zeek"]


@dataclass(frozen=True, slots=True)
class Target:
    """One dataset of a log source; see `logsources.LogSource` for what the attributes mean. `note` is for the page in docs."""

    dataset: str
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    there: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    others: str | None = None
    keywords: tuple[str, ...] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A log source as category, product and service ("": must not be given, None: any), and its datasets."""

    source: tuple[str | None, str | None, str | None]
    targets: tuple[Target, ...]


# Names of Sigma's taxonomy that are not ECS names, in every dataset that has the field.
TAXONOMY: Final[Mapping[str, str]] = {
    "src_ip": "source.ip", "src_port": "source.port", "dst_ip": "destination.ip", "dst_port": "destination.port",
    "src_mac": "source.mac", "dst_mac": "destination.mac", "username": "user.name", "domain": "user.domain",
    "c-ip": "source.ip", "s-ip": "destination.ip", "s-port": "destination.port", "cs-username": "user.name",
    "cs-method": "http.request.method", "cs-host": "url.domain", "r-dns": "url.domain", "sc-status": "http.response.status.code",
    "c-useragent": "user_agent.original", "cs-user-agent": "user_agent.original",
    "c-uri": "url.original:forms", "cs-uri": "url.original:forms", "cs-uri-query": "url.original:forms",
    "c-uri-query": "url.original:query", "cs-uri-stem": "url.original:path", "c-uri-stem": "url.original:path",
    "c-uri-extension": "url.original:extension",
    "cs-referer": "http.request.referrer", "cs-referrer": "http.request.referrer",
    "cs-bytes": "http.request.bytes", "sc-bytes": "http.response.bytes",
}  # fmt: skip

_CONNECTION: Final[Mapping[str, str]] = {
    "id.orig_h": "source_ip", "id.orig_p": "source_port", "id.resp_h": "destination_ip", "id.resp_p": "destination_port",
    "proto": "network_transport", "uid": "flow_id", "ts": "timestamp",
}  # fmt: skip
_ZEEK_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "dns": {
        "query": "dns_question_name", "qtype_name": "dns_question_type", "rcode_name": "dns_response_code",
        "answers": "dns_answers",
    },
    "http": {
        "host": "url_domain", "uri": "url_original", "method": "http_request_method", "user_agent": "user_agent_original",
        "referrer": "http_request_referrer", "status_code": "http_response_status_code", "username": "user_name",
    },
    "dce_rpc": {"endpoint": "dce_rpc_endpoint", "operation": "event_action"},
    "x509": {"certificate.serial": "tls_server_x509_serial_number|document.certificate.serial"},
    "ssl": {"server_name": "tls_server_name", "version": "tls_version", "cipher": "tls_cipher", "ja3": "tls_client_ja3"},
}  # fmt: skip


def zeek(service: str) -> tuple[Target, ...]:
    """A log of Zeek by its name. Columns without a field are read from the record as it was sent."""
    if service == "conn":
        names = {
            **_CONNECTION, "service": "network_application", "conn_state": "flow_state", "orig_bytes": "source_bytes",
            "resp_bytes": "destination_bytes",
        }  # fmt: skip
        return (Target("network-flow", {"flow_protocol": ("zeek",)}, names=names, others="flow_additional.{}"),)
    others = f"document.{{}}|document.zeek.{service}.{{}}|document.{service}.{{}}"
    if service == "notice":
        names = {**_CONNECTION, "note": "rule_name", "msg": "message", "sub": "event_reason"}
        return (Target("ids-alert", {"event_dataset": ("zeek.notice",)}, names=names, others=others),)
    names = {**_CONNECTION, **_ZEEK_NAMES.get(service, {})}
    return (Target("network-log", {"event_dataset": (f"zeek.{service}",)}, names=names, others=others),)


_REQUESTS: Final = Target(
    "network-log",
    {"event_dataset": ("zeek.http", "suricata.http")},
    names={
        "cs-cookie": "document.http.cookie|document.cookie",
        "cs-content-type": "document.http.http_content_type|file_mime_type",
    },
)
_REQUEST_TEXTS: Final = ("url_original", "user_agent_original", "http_request_referrer", "user_name")
"""What a line of an access log has: where the keywords of web servers' rules are looked for."""
_CEF_REQUEST_NAMES: Final[Mapping[str, str]] = {
    "cs-referer": "cef_extensions.requestContext",
    "cs-referrer": "cef_extensions.requestContext",
    "cs-cookie": "cef_extensions.requestCookies",
    "cs-bytes": "source_bytes",
    "sc-bytes": "destination_bytes",
}
_SYSLOG_REQUEST_NAMES: Final[Mapping[str, str]] = {
    "cs-referer": "log_syslog_fields.referralurl",
    "cs-referrer": "log_syslog_fields.referralurl",
    "cs-cookie": "log_syslog_fields.cookie",
    "cs-bytes": "source_bytes",
    "sc-bytes": "destination_bytes",
}
_NAME_LOOKUPS: Final[Mapping[str, str]] = {
    "query": "dns_question_name", "record_type": "dns_question_type", "answer": "dns_answers", "answers": "dns_answers",
    "rcode": "dns_response_code",
}  # fmt: skip
_ANY_SYSLOG: Final = Target("syslog", keywords=("message",), note="any sender: the rule's keywords tell the message")
_FLOWS: Final = Target("network-flow")

TABLE: Final[tuple[Row, ...]] = (
    Row(("file_audit", "qumulo", None), (Target("file-audit", {"event_module": ("qumulo",)}),)),
    Row(("file_audit", "", None), (Target("file-audit"),)),
    Row((None, "kemp", None), (Target("cef", {"event_module": ("kemp",)}), Target("syslog", {"event_module": ("kemp",)}))),
    Row((None, "", "netflow"), (_FLOWS,)),
    Row(
        ("firewall", "", ""),
        (
            _FLOWS,
            Target(
                "syslog",
                {"event_module": ("cisco", "fortinet", "juniper", "paloalto")},
                names={"action": "device_action", "blocked": "log_syslog_fields.blocked"},
            ),
            Target("cef", there="device_action", names={"action": "device_action", "blocked": "cef_extensions.blocked"}),
        ),
    ),
    Row(("dns", "", ""), (Target("network-log", {"event_dataset": ("zeek.dns", "suricata.dns")}, names=_NAME_LOOKUPS),)),
    Row(
        ("proxy", "", ""),
        (
            _REQUESTS,
            Target("cef", there="url_original", names=_CEF_REQUEST_NAMES),
            Target("syslog", there="url_original", names=_SYSLOG_REQUEST_NAMES, note="FortiGate web filter, PAN-OS URL logs, …"),
        ),
    ),
    Row(
        ("webserver", "", ""),
        (
            replace(_REQUESTS, keywords=_REQUEST_TEXTS),
            Target(
                "cef",
                there="url_original",
                names=_CEF_REQUEST_NAMES,
                keywords=("url_original", "user_agent_original", "cef_extensions.requestContext", "user_name"),
                note="Kemp ESP, …",
            ),
        ),
    ),
    Row(
        (None, "cisco", "aaa"),
        (
            Target(
                "syslog",
                {"event_module": ("cisco",)},
                there="process_command_line",
                keywords=("process_command_line",),
                note="commands that a device says were run; keywords are looked for in the command alone",
            ),
        ),
    ),
    Row((None, "cisco", "bgp"), (_ANY_SYSLOG,)),
    Row((None, "cisco", "ldp"), (_ANY_SYSLOG,)),
    Row((None, "huawei", "bgp"), (_ANY_SYSLOG,)),
    Row((None, "juniper", "bgp"), (_ANY_SYSLOG,)),
    Row(
        (None, "fortigate", "event"),
        (
            Target(
                "syslog",
                {"event_module": ("fortinet",), "log_syslog_fields.type": ("event",)},
                names={"action": "log_syslog_fields.action"},
                others="log_syslog_fields.{}",
            ),
            Target(
                "cef",
                {"event_module": ("fortinet",)},
                names={"action": "cef_extensions.act|device_action"},
                others="cef_extensions.FTNTFGT{}",
            ),
        ),
    ),
    Row(
        ("", "", "apache"),
        (
            Target("syslog", {"process_name": ("httpd", "apache", "apache2")}),
            Target("sensor", {"event_module": ("apache",)}, note="Filebeat's module"),
        ),
    ),
    Row(
        ("", "", "nginx"),
        (Target("syslog", {"process_name": ("nginx",)}), Target("sensor", {"event_module": ("nginx",)}, note="Filebeat's module")),
    ),
)
