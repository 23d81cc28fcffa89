"""The parts of an EVE record that report one application protocol each, and which fields of an event they fill.

Source: the user guide's "Eve JSON Format" of Suricata 4.1 to 8.0, and `etc/schema.json` of its source tree (the key of a part is
the property's name there). `SECTIONS` is the table; where a name is all there is to say, it stands there, and what needs a thought
has a function below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from weir.protocols._values import address, integer, mac, object_of, text

__all__ = ["FIELDS", "SECTIONS", "Fields", "Section"]

Fields = dict[str, Any]
Section = tuple[tuple[tuple[str, str], ...], Callable[[Fields, dict[str, object]], None] | None]
"""Pairs of a key and the field that its text goes to; and what is to be done besides."""

_LONG: Final = 2**63
_INT: Final = 2**31
_MOST_ANSWERS: Final = 64
"""Of a list in a record so many are looked at; the document has them all."""

_FAILED_FROM: Final = 400
"""HTTP status from which on a request has failed (RFC 9110, section 15)."""

_TLS_VERSIONS: Final = {
    "TLSv1": "1.0",
    "TLS 1.0": "1.0",
    "TLS 1.1": "1.1",
    "TLS 1.2": "1.2",
    "TLS 1.3": "1.3",
    "UNDETERMINED": None,
}
_PSEUDO_HEADERS: Final = {
    ":authority": "url_domain", ":path": "url_original", ":method": "http_request_method", "user-agent": "user_agent_original",
    "referer": "http_request_referrer",
}  # fmt: skip
_DIGESTS: Final = {"md5": (32, "file_hash_md5"), "sha1": (40, "file_hash_sha1"), "sha256": (64, "file_hash_sha256")}


def _http(fields: Fields, http: dict[str, object]) -> None:
    if (status := integer(http.get("status"), _INT)) is not None:
        fields["http_response_status_code"] = status
        fields["event_outcome"] = "failure" if status >= _FAILED_FROM else "success"
    if (length := integer(http.get("length"), _LONG)) is not None:
        fields["http_response_bytes"] = length
    if "hostname" not in http and isinstance(headers := http.get("request_headers"), list):
        # Suricata 6 gives HTTP/2 by its headers alone.
        for header in headers[:_MOST_ANSWERS]:
            if isinstance(header, dict) and isinstance(name := header.get("name"), str):
                field = _PSEUDO_HEADERS.get(name.lower())
                if field is not None and (value := text(header.get("value"))):
                    fields.setdefault(field, value)


def _dns(fields: Fields, dns: dict[str, object]) -> None:
    # The question stands in the record itself (versions 1 and 2), in `queries` (version 3), or, in alerts of
    # version 2, in `query` or `answer`.
    question = dns
    if "rrname" not in dns:
        for name in ("queries", "query", "answer"):
            inner = dns.get(name)
            if isinstance(inner, list) and inner:
                inner = inner[0]
            if isinstance(inner, dict):
                question = inner
                break
    if asked := text(question.get("rrname")):
        fields["dns_question_name"] = asked
    if kind := text(question.get("rrtype")):
        fields["dns_question_type"] = kind
    answer = object_of(dns.get("answer"))
    if code := text(dns.get("rcode") or answer.get("rcode")):
        fields["dns_response_code"] = code
    if answers := _answers(dns) or _answers(answer):
        fields["dns_answers"] = answers


def _answers(dns: dict[str, object]) -> list[str]:
    """What was answered, as text: of version 1 the record itself, of the others a list, or lists by type."""
    answers = dns.get("answers")
    if isinstance(answers, list):
        return [data for answer in answers[:_MOST_ANSWERS] if (data := _rdata(answer))]
    if only := text(dns.get("rdata")):
        return [only]
    grouped = dns.get("grouped")
    if not isinstance(grouped, dict):
        return []
    lists = [values for values in grouped.values() if isinstance(values, list)]
    flat = [value for values in lists[:_MOST_ANSWERS] for value in values[:_MOST_ANSWERS]]
    return [data for value in flat if (data := value if isinstance(value, str) else _rdata({"rdata": value}))]


_RDATA: Final = ("rdata", "a", "aaaa", "cname", "ptr", "ns", "mx", "txt", "srv", "soa", "sshfp")


def _rdata(answer: object) -> str | None:
    """An answer's data; what is no text (SOA, SRV, SSHFP, the parts of a TXT) as JSON."""
    if not isinstance(answer, dict):
        return None
    for name in _RDATA:
        if data := answer.get(name):
            if isinstance(data, str):
                return data
            try:
                return orjson.dumps(data).decode()
            except TypeError:
                return None
    return None


def _tls(fields: Fields, tls: dict[str, object]) -> None:
    if (version := text(tls.get("version"))) and (known := _TLS_VERSIONS.get(version, version)) is not None:
        fields["tls_version"] = known
    _fingerprints(fields, tls)
    cipher = integer(object_of(tls.get("server_handshake")).get("cipher"), 65_536)
    if cipher is not None:
        fields["tls_cipher"] = f"0x{cipher:04X}"


def _fingerprints(fields: Fields, part: dict[str, object]) -> None:
    for name, field in (("ja3", "tls_client_ja3"), ("ja3s", "tls_server_ja3s")):
        found = part.get(name)
        if value := text(found.get("hash") if isinstance(found, dict) else found):
            fields[field] = value


def _ssh(fields: Fields, ssh: dict[str, object]) -> None:
    for side, field in (("client", "ssh_client"), ("server", "ssh_server")):
        if software := text(object_of(ssh.get(side)).get("software_version")):
            fields[field] = software


def _path(fields: Fields, value: object) -> None:
    """A file by its name or path, whatever way its system draws the slashes."""
    if path := text(value):
        fields["file_path"] = path
        if name := path.replace("\\", "/").rstrip("/").rpartition("/")[2]:
            fields["file_name"] = name


def _file(fields: Fields, file: dict[str, object]) -> None:
    _path(fields, file.get("filename"))
    if (size := integer(file.get("size"), _LONG)) is not None:
        fields["file_size"] = size
    for name, (length, field) in _DIGESTS.items():
        if (digest := text(file.get(name))) and len(digest) == length:
            fields[field] = digest.lower()


def _smb(fields: Fields, smb: dict[str, object]) -> None:
    _path(fields, smb.get("filename"))
    login = object_of(smb.get("ntlmssp"))
    for name, field in (("user", "user_name"), ("domain", "user_domain"), ("host", "source_host")):
        if value := text(login.get(name)):
            fields[field] = value
    if status := text(smb.get("status")):
        fields["event_outcome"] = "success" if status == "STATUS_SUCCESS" else "failure"


def _ftp(fields: Fields, ftp: dict[str, object]) -> None:
    command, data = ftp.get("command"), ftp.get("command_data")
    if command == "USER" and (user := text(data)):
        fields["user_name"] = user
    elif command in {"RETR", "STOR", "DELE", "APPE", "STOU", "SIZE", "RNFR", "RNTO"}:
        _path(fields, data)
    codes = ftp.get("completion_code")
    if isinstance(codes, list) and codes and (code := text(codes[0])):
        fields["event_code"] = code
        fields["event_outcome"] = "failure" if code[0] in "45" else "success"


def _ftp_data(fields: Fields, data: dict[str, object]) -> None:
    _path(fields, data.get("filename"))


def _krb5(fields: Fields, krb5: dict[str, object]) -> None:
    for name, field in (("cname", "user_name"), ("realm", "user_domain")):
        # It writes "<empty>" where the message has none.
        if (value := text(krb5.get(name))) and value != "<empty>":
            fields[field] = value
    fields["event_outcome"] = "failure" if "error_code" in krb5 or krb5.get("msg_type") == "KRB_ERROR" else "success"


def _rdp(fields: Fields, rdp: dict[str, object]) -> None:
    if host := text(object_of(rdp.get("client")).get("client_name")):
        fields["source_host"] = host


def _sip(fields: Fields, sip: dict[str, object]) -> None:
    if "method" not in sip and "code" in sip:
        fields["event_action"] = "response"


def _nfs(fields: Fields, nfs: dict[str, object]) -> None:
    _path(fields, nfs.get("filename"))
    if status := text(nfs.get("status")):
        fields["event_outcome"] = "success" if status == "OK" else "failure"


def _rpc(fields: Fields, rpc: dict[str, object]) -> None:
    creds = object_of(rpc.get("creds"))
    if (uid := integer(creds.get("uid"), 2**32)) is not None:
        fields["user_id"] = str(uid)
    if host := text(creds.get("machine_name")):
        fields["source_host"] = host


def _tftp(fields: Fields, tftp: dict[str, object]) -> None:
    _path(fields, tftp.get("file"))


def _mqtt(fields: Fields, mqtt: dict[str, object]) -> None:
    for name, message in mqtt.items():
        if isinstance(message, dict):
            fields.setdefault("event_action", name)
            if name == "connect" and (user := text(message.get("username"))):
                fields["user_name"] = user


def _request(name: str) -> Callable[[Fields, dict[str, object]], None]:
    """For protocols whose request says what was asked for."""

    def add(fields: Fields, part: dict[str, object]) -> None:
        for side in ("request", "response"):
            if action := text(object_of(part.get(side)).get(name)):
                fields["event_action"] = action
                return

    return add


def _ldap(fields: Fields, ldap: dict[str, object]) -> None:
    request = object_of(ldap.get("request"))
    if action := text(request.get("operation")):
        fields["event_action"] = action
    if user := text(object_of(request.get("bind_request")).get("name")):
        fields["user_name"] = user
    responses = ldap.get("responses")
    for response in responses[:_MOST_ANSWERS] if isinstance(responses, list) else ():
        for part in response.values() if isinstance(response, dict) else ():
            if code := text(object_of(part).get("result_code")):
                fields["event_reason"] = code
                fields["event_outcome"] = "success" if code == "success" else "failure"


def _pgsql(fields: Fields, pgsql: dict[str, object]) -> None:
    request, response = object_of(pgsql.get("request")), object_of(pgsql.get("response"))
    if user := text(object_of(request.get("startup_parameters")).get("user")):
        fields["user_name"] = user
    if code := text(response.get("code")):
        fields["event_code"] = code
    if severity := text(response.get("severity_non_localizable")):
        fields["event_outcome"] = "failure" if severity in {"ERROR", "FATAL", "PANIC"} else "success"
    if reason := text(response.get("message")):
        fields["event_reason"] = reason


def _pop3(fields: Fields, pop3: dict[str, object]) -> None:
    request, response = object_of(pop3.get("request")), object_of(pop3.get("response"))
    arguments = request.get("args")
    if command := text(request.get("command")):
        fields["event_action"] = command
        if command == "USER" and isinstance(arguments, list) and arguments and (user := text(arguments[0])):
            fields["user_name"] = user
    if isinstance(success := response.get("success"), bool):
        fields["event_outcome"] = "success" if success else "failure"


def _dhcp(fields: Fields, dhcp: dict[str, object]) -> None:
    if "dhcp_type" not in dhcp and (kind := text(dhcp.get("type"))):
        fields["event_action"] = kind
    # The client asks, and is answered to: its address is the source's or the destination's.
    reply = dhcp.get("type") == "reply"
    if client := mac(dhcp.get("client_mac")):
        fields["destination_mac" if reply else "source_mac"] = client
    if host := text(dhcp.get("hostname")):
        fields["destination_host" if reply else "source_host"] = host


def _arp(fields: Fields, arp: dict[str, object]) -> None:
    for side, prefix in (("src", "source"), ("dest", "destination")):
        if ip := address(arp.get(f"{side}_ip")):
            fields.setdefault(f"{prefix}_ip", ip)
        if card := mac(arp.get(f"{side}_mac")):
            fields[f"{prefix}_mac"] = card


def _ether(fields: Fields, ether: dict[str, object]) -> None:
    # A flow lists all it saw; the first is the one that it began with.
    for side, field in (("src", "source_mac"), ("dest", "destination_mac")):
        found = ether.get(f"{side}_mac")
        several = ether.get(f"{side}_macs")
        if found is None and isinstance(several, list) and several:
            found = several[0]
        if card := mac(found):
            fields[field] = card


def _rfb(fields: Fields, rfb: dict[str, object]) -> None:
    result = object_of(rfb.get("authentication")).get("security_result")
    if isinstance(result, str):
        fields["event_outcome"] = "success" if result == "OK" else "failure"


def _dcerpc(fields: Fields, dcerpc: dict[str, object]) -> None:
    interfaces = dcerpc.get("interfaces")
    if isinstance(interfaces, list) and interfaces and (service := text(object_of(interfaces[0]).get("service"))):
        fields["event_reason"] = service


def _anomaly(fields: Fields, anomaly: dict[str, object]) -> None:
    if (code := integer(anomaly.get("code"), _INT)) is not None:
        fields["event_code"] = str(code)


def _engine(fields: Fields, engine: dict[str, object]) -> None:
    if (code := integer(engine.get("error_code"), _INT)) is not None:
        fields["event_code"] = str(code)


SECTIONS: Final[dict[str, Section]] = {
    "http": (
        (
            ("hostname", "url_domain"), ("url", "url_original"), ("http_method", "http_request_method"),
            ("http_user_agent", "user_agent_original"), ("http_refer", "http_request_referrer"),
        ),
        _http,
    ),
    "dns": ((("type", "event_action"),), _dns),
    "mdns": ((("type", "event_action"),), _dns),
    "llmnr": ((("type", "event_action"),), _dns),
    "tls": (
        (
            ("sni", "tls_server_name"), ("subject", "tls_server_subject"), ("issuerdn", "tls_server_issuer"),
            ("ja4", "tls_client_ja4"), ("serial", "tls_server_x509_serial_number"),
        ),
        _tls,
    ),
    "quic": ((("sni", "tls_server_name"), ("ua", "user_agent_original"), ("ja4", "tls_client_ja4")), _fingerprints),
    "ssh": ((), _ssh),
    "fileinfo": ((), _file),
    "smb": ((("command", "event_action"), ("status", "event_reason")), _smb),
    "dcerpc": ((("request", "event_action"),), _dcerpc),
    "ftp": ((("command", "event_action"),), _ftp),
    "ftp_data": ((("command", "event_action"),), _ftp_data),
    "krb5": ((("msg_type", "event_action"), ("error_code", "event_reason")), _krb5),
    "rdp": ((("event_type", "event_action"), ("cookie", "user_name")), _rdp),
    "sip": ((("method", "event_action"), ("uri", "url_original"), ("code", "event_code"), ("reason", "event_reason")), _sip),
    "snmp": ((("pdu_type", "event_action"), ("usm", "user_name")), None),
    "nfs": ((("procedure", "event_action"), ("status", "event_reason")), _nfs),
    "rpc": ((), _rpc),
    "tftp": ((("packet", "event_action"),), _tftp),
    "mqtt": ((), _mqtt),
    "modbus": ((), _request("function_code")),
    "enip": ((), _request("command")),
    "dnp3": ((("type", "event_action"),), _request("type")),
    "ike": ((("exchange_type_verbose", "event_action"),), None),
    "ikev2": ((("role", "event_action"),), None),
    "dhcp": ((("dhcp_type", "event_action"),), _dhcp),
    "bittorrent_dht": ((("request_type", "event_action"),), None),
    "ldap": ((), _ldap),
    "pgsql": ((), _pgsql),
    "pop3": ((), _pop3),
    "rfb": ((("server_security_failure_reason", "event_reason"),), _rfb),
    "websocket": ((("opcode", "event_action"),), None),
    "arp": ((("opcode", "event_action"),), _arp),
    "ether": ((), _ether),
    "anomaly": ((("event", "event_action"), ("type", "event_reason"), ("event", "message")), _anomaly),
    "drop": ((("reason", "event_reason"),), None),
    "frame": ((("type", "event_action"),), None),
    "engine": ((("message", "message"), ("error", "event_reason")), _engine),
}  # fmt: skip
"""By the key of the part in the record."""

FIELDS: Final = frozenset(field for texts, _ in SECTIONS.values() for _, field in texts) | {
    "http_response_status_code", "http_response_bytes", "url_domain", "url_original", "http_request_method", "user_agent_original",
    "http_request_referrer", "dns_question_name", "dns_question_type", "dns_response_code", "dns_answers", "tls_version",
    "tls_cipher",
    "tls_client_ja3", "tls_server_ja3s", "ssh_client", "ssh_server", "file_path", "file_name", "file_size", "file_hash_md5",
    "file_hash_sha1", "file_hash_sha256", "user_name", "user_domain", "user_id", "source_host", "destination_host", "source_ip",
    "destination_ip", "source_mac", "destination_mac", "event_action", "event_code", "event_outcome", "event_reason",
}  # fmt: skip
"""Every name that a part can fill."""
