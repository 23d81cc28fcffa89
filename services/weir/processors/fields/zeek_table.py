"""What each of Zeek's logs is in ECS, and which of its columns have a field of events.network-log. The rest lies in `document`.

Columns and their meaning: Zeek's manual, "Log Files", and the records that its scripts log. Categories and types are those that the
Elastic Common Schema allows; logs in which Zeek speaks of itself have none.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from weir.processors.fields.zeek_values import (
    Convert,
    address,
    code,
    failed,
    first,
    ftp_url,
    hexadecimal,
    integer,
    lower,
    mac,
    not_ok,
    outcome,
    port,
    text,
    texts,
    tls_version,
    tunnel_type,
)

__all__ = ["LOGS", "OTHER", "Log"]


class Log(NamedTuple):
    """`application` and `transport` are what every record of the log speaks.

    `columns` are (column, field, conversion); of those for one field, the first that has something to give is taken.
    """

    category: tuple[str, ...] = ("network",)
    type: tuple[str, ...] = ("info", "protocol")
    columns: tuple[tuple[str, str, Convert], ...] = ()
    application: str | None = None
    transport: str | None = None
    kind: str = "event"


_FILE: Final = (
    ("md5", "file_hash_md5", hexadecimal(32)),
    ("sha1", "file_hash_sha1", hexadecimal(40)),
    ("sha256", "file_hash_sha256", hexadecimal(64)),
)
_LOGIN: Final = (("network", "authentication"), ("info", "protocol"))
_FILES: Final = ("network", "file")
_ITSELF: Final[tuple[str, ...]] = ()
_INFO: Final = ("info",)

OTHER: Final = Log(type=("info",))
"""For logs that are not in the table: of packages, or an operator's own."""

_SERVER: Final = (
    ("host", "destination_ip", address),
    ("port_num", "destination_port", port),
    ("port_proto", "network_transport", lower),
)
_LDAP: Final = (
    ("result", "event_outcome", outcome),
    ("results", "event_outcome", outcome),
    ("diagnostic_message", "event_reason", text),
    ("diagnostic_messages", "event_reason", text),
)

LOGS: Final[dict[str, Log]] = {
    "analyzer": Log(
        columns=(
            ("failure_reason", "event_reason", text),
            ("failure_reason", "event_outcome", failed),
            ("cause", "event_action", text),
        )
    ),
    "broker": Log(
        _ITSELF, _INFO, (("message", "message", text), ("ev", "event_action", text), ("peer.address", "source_ip", address))
    ),
    "capture_loss": Log(_ITSELF, _INFO, kind="metric"),
    "cluster": Log(_ITSELF, _INFO, (("message", "message", text),)),
    "communication": Log(_ITSELF, _INFO, (("message", "message", text), ("connected_peer_addr", "source_ip", address))),
    "config": Log(_ITSELF, ("change",)),
    "dce_rpc": Log(
        columns=(("operation", "event_action", text), ("endpoint", "dce_rpc_endpoint", text)),
        application="dce_rpc",
    ),
    "dhcp": Log(
        columns=(
            ("mac", "source_mac", mac),
            ("client_addr", "source_ip", address),
            ("assigned_addr", "source_ip", address),
            ("assigned_ip", "source_ip", address),
            ("requested_addr", "source_ip", address),
            ("server_addr", "destination_ip", address),
            ("host_name", "source_host", text),
            ("client_fqdn", "source_host", text),
            ("msg_types", "event_action", text),
        ),
        application="dhcp",
        transport="udp",
    ),
    "dnp3": Log(columns=(("fc_request", "event_action", text), ("fc_reply", "event_action", text)), application="dnp3"),
    "dns": Log(
        columns=(
            ("query", "dns_question_name", text),
            ("qtype_name", "dns_question_type", text),
            ("rcode_name", "dns_response_code", text),
            ("answers", "dns_answers", texts),
        ),
        application="dns",
    ),
    "dpd": Log(columns=(("failure_reason", "event_reason", text), ("failure_reason", "event_outcome", failed))),
    "files": Log(
        _FILES,
        _INFO,
        (
            *_FILE,
            ("conn_uids", "flow_id", first),
            ("tx_hosts", "source_ip", address),
            ("rx_hosts", "destination_ip", address),
            ("source", "network_application", lower),
            ("filename", "file_name", text),
            ("mime_type", "file_mime_type", text),
            ("total_bytes", "file_size", integer),
            ("seen_bytes", "file_size", integer),
        ),
    ),
    "ftp": Log(
        columns=(
            ("user", "user_name", text),
            ("command", "event_action", text),
            ("arg", "url_original", ftp_url),
            ("mime_type", "file_mime_type", text),
            ("file_size", "file_size", integer),
            ("reply_code", "event_outcome", outcome),
            ("reply_code", "event_code", text),
            ("reply_msg", "event_reason", text),
        ),
        application="ftp",
        transport="tcp",
    ),
    "http": Log(
        ("network", "web"),
        ("access", "protocol"),
        (
            ("method", "http_request_method", text),
            ("host", "url_domain", text),
            ("uri", "url_original", text),
            ("referrer", "http_request_referrer", text),
            ("user_agent", "user_agent_original", text),
            ("status_code", "http_response_status_code", code),
            ("status_code", "event_outcome", outcome),
            ("request_body_len", "http_request_bytes", integer),
            ("response_body_len", "http_response_bytes", integer),
            ("username", "user_name", text),
            ("resp_mime_types", "file_mime_type", first),
            ("orig_mime_types", "file_mime_type", first),
            ("resp_filenames", "file_name", first),
            ("orig_filenames", "file_name", first),
            ("filename", "file_name", text),
        ),
        application="http",
        transport="tcp",
    ),
    "intel": Log(
        ("network", "threat"),
        ("indicator",),
        (
            ("seen.indicator", "rule_name", text),
            ("seen.indicator_type", "rule_category", text),
            ("seen.where", "event_action", text),
            ("file_mime_type", "file_mime_type", text),
        ),
        kind="alert",
    ),
    "irc": Log(
        columns=(
            ("nick", "user_name", text),
            ("user", "user_name", text),
            ("command", "event_action", text),
            ("dcc_file_name", "file_name", text),
            ("dcc_file_size", "file_size", integer),
            ("dcc_mime_type", "file_mime_type", text),
        ),
        application="irc",
        transport="tcp",
    ),
    "kerberos": Log(
        *_LOGIN,
        (("request_type", "event_action", text), ("success", "event_outcome", outcome), ("error_msg", "event_reason", text)),
        application="kerberos",
    ),
    "known_certs": Log(
        _ITSELF,
        _INFO,
        (*_SERVER, ("subject", "tls_server_subject", text), ("issuer_subject", "tls_server_issuer", text)),
        kind="state",
    ),
    "known_devices": Log(("host",), _INFO, (("mac", "source_mac", mac), ("dhcp_host_name", "source_host", text)), kind="state"),
    "known_hosts": Log(("host",), _INFO, (("host", "source_ip", address),), kind="state"),
    "known_modbus": Log(("host",), _INFO, (("host", "source_ip", address),), kind="state"),
    "known_services": Log(("host",), _INFO, (*_SERVER, ("service", "network_application", lower)), kind="state"),
    "ldap": Log(columns=(("opcode", "event_action", text), ("opcodes", "event_action", text), *_LDAP), application="ldap"),
    "ldap_search": Log(columns=_LDAP, application="ldap"),
    "loaded_scripts": Log(_ITSELF, _INFO),
    "modbus": Log(
        columns=(("func", "event_action", text), ("exception", "event_reason", text), ("exception", "event_outcome", failed)),
        application="modbus",
        transport="tcp",
    ),
    "modbus_register_change": Log(type=("change", "protocol"), application="modbus", transport="tcp"),
    "mqtt_connect": Log(columns=(("connect_status", "event_reason", text),), application="mqtt", transport="tcp"),
    "mqtt_publish": Log(columns=(("status", "event_reason", text),), application="mqtt", transport="tcp"),
    "mqtt_subscribe": Log(columns=(("action", "event_action", text),), application="mqtt", transport="tcp"),
    "mysql": Log(
        ("network", "database"),
        ("access", "protocol"),
        (("cmd", "event_action", text), ("success", "event_outcome", outcome), ("response", "event_reason", text)),
        application="mysql",
        transport="tcp",
    ),
    "ntlm": Log(
        *_LOGIN,
        (
            ("username", "user_name", text),
            ("domainname", "user_domain", text),
            ("hostname", "source_host", text),
            ("server_dns_computer_name", "destination_host", text),
            ("server_nb_computer_name", "destination_host", text),
            ("success", "event_outcome", outcome),
            ("status", "event_reason", text),
        ),
        application="ntlm",
    ),
    "ntp": Log(application="ntp", transport="udp"),
    "ocsp": Log(type=("info", "protocol"), columns=(("revokereason", "event_reason", text),), application="ocsp"),
    "packet_filter": Log(_ITSELF, _INFO, (("success", "event_outcome", outcome), ("failure_reason", "event_reason", text))),
    "pe": Log(("file",), _INFO),
    "postgresql": Log(
        ("network", "database"),
        ("access", "protocol"),
        (("user", "user_name", text), ("frontend", "event_action", text), ("success", "event_outcome", outcome)),
        application="postgresql",
        transport="tcp",
    ),
    "quic": Log(columns=(("server_name", "tls_server_name", text),), application="quic", transport="udp"),
    "radius": Log(
        *_LOGIN,
        (
            ("username", "user_name", text),
            ("mac", "source_mac", mac),
            ("result", "event_outcome", outcome),
            ("reply_msg", "event_reason", text),
        ),
        application="radius",
        transport="udp",
    ),
    "rdp": Log(
        columns=(
            ("result", "event_reason", text),
            ("client_name", "source_host", text),
            ("cookie", "user_name", text),
            ("ja3", "tls_client_ja3", text),
        ),
        application="rdp",
    ),
    "redis": Log(
        ("network", "database"),
        ("access", "protocol"),
        (("cmd.name", "event_action", text), ("success", "event_outcome", outcome)),
        application="redis",
        transport="tcp",
    ),
    "reporter": Log(_ITSELF, _INFO, (("message", "message", text), ("level", "event_action", text))),
    "rfb": Log(
        *_LOGIN,
        (("auth", "event_outcome", outcome), ("desktop_name", "destination_host", text)),
        application="rfb",
        transport="tcp",
    ),
    "signatures": Log(
        ("network", "intrusion_detection"),
        _INFO,
        (
            ("src_addr", "source_ip", address),
            ("src_port", "source_port", port),
            ("dst_addr", "destination_ip", address),
            ("dst_port", "destination_port", port),
            ("sig_id", "rule_id", text),
            ("note", "rule_name", text),
            ("event_msg", "message", text),
        ),
        kind="alert",
    ),
    "sip": Log(
        columns=(
            ("method", "event_action", text),
            ("uri", "url_original", text),
            ("user_agent", "user_agent_original", text),
            ("status_code", "event_outcome", outcome),
            ("status_code", "event_code", text),
            ("status_msg", "event_reason", text),
        ),
        application="sip",
    ),
    "smb_cmd": Log(
        columns=(("command", "event_action", text), ("username", "user_name", text), ("status", "event_reason", text)),
        application="smb",
        transport="tcp",
    ),
    "smb_files": Log(
        _FILES,
        ("access", "protocol"),
        (("action", "event_action", text), ("name", "file_name", text), ("size", "file_size", integer)),
        application="smb",
        transport="tcp",
    ),
    "smb_mapping": Log(
        columns=(("path", "file_path", text), ("share_type", "event_action", text)), application="smb", transport="tcp"
    ),
    "smtp": Log(
        ("network", "email"),
        columns=(("user_agent", "user_agent_original", text), ("last_reply", "event_reason", text), ("subject", "message", text)),
        application="smtp",
        transport="tcp",
    ),
    "snmp": Log(application="snmp", transport="udp"),
    "socks": Log(
        columns=(
            ("user", "user_name", text),
            ("request.name", "url_domain", text),
            ("status", "event_outcome", outcome),
            ("status", "event_reason", text),
        ),
        application="socks",
        transport="tcp",
    ),
    "software": Log(
        ("host",),
        _INFO,
        (("host", "source_ip", address), ("host_p", "source_port", port), ("unparsed_version", "message", text)),
        kind="state",
    ),
    "ssh": Log(
        *_LOGIN,
        (
            ("client", "ssh_client", text),
            ("server", "ssh_server", text),
            ("auth_success", "event_outcome", outcome),
            ("status", "event_outcome", outcome),
        ),
        application="ssh",
        transport="tcp",
    ),
    "ssl": Log(
        columns=(
            ("version", "tls_version", tls_version),
            ("cipher", "tls_cipher", text),
            ("server_name", "tls_server_name", text),
            ("subject", "tls_server_subject", text),
            ("issuer", "tls_server_issuer", text),
            ("issuer_subject", "tls_server_issuer", text),
            ("ja3", "tls_client_ja3", text),
            ("ja3s", "tls_server_ja3s", text),
            ("ja4", "tls_client_ja4", text),
            ("established", "event_outcome", outcome),
            ("validation_status", "event_reason", not_ok),
        ),
        application="ssl",
    ),
    "stats": Log(_ITSELF, _INFO, kind="metric"),
    "syslog": Log(columns=(("message", "message", text),), application="syslog"),
    "telemetry": Log(_ITSELF, _INFO, kind="metric"),
    "telemetry_histogram": Log(_ITSELF, _INFO, kind="metric"),
    "traceroute": Log(type=("info",), columns=(("src", "source_ip", address), ("dst", "destination_ip", address))),
    "tunnel": Log(
        type=("connection", "protocol"),
        columns=(("tunnel_type", "network_application", tunnel_type), ("action", "event_action", text)),
    ),
    "websocket": Log(
        ("network", "web"),
        ("access", "protocol"),
        (("host", "url_domain", text), ("uri", "url_original", text), ("user_agent", "user_agent_original", text)),
        application="websocket",
        transport="tcp",
    ),
    "weird": Log(type=("info",), columns=(("name", "rule_name", text), ("addl", "event_reason", text), ("name", "message", text))),
    "weird_stats": Log(type=("info",), columns=(("name", "rule_name", text),), kind="metric"),
    "x509": Log(
        ("file",),
        _INFO,
        (
            ("certificate.subject", "tls_server_subject", text),
            ("certificate.issuer", "tls_server_issuer", text),
            ("certificate.serial", "tls_server_x509_serial_number", text),
            ("fingerprint", "file_hash_sha256", hexadecimal(64)),
            ("fingerprint", "file_hash_sha1", hexadecimal(40)),
        ),
    ),
}
