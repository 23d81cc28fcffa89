"""From a CEF extension to event fields, by table.

Keys and their meaning: ArcSight Common Event Format, "CEF Key Names For Event Producers"; which of them have a column of their own
in CommonSecurityLog: Microsoft, "CEF and CommonSecurityLog field mapping".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final
from zoneinfo import available_timezones

from weir.processors.fields import Context, Decoded
from weir.processors.fields.kemp import add_esp
from weir.processors.localtime import ToUtc, local_time
from weir.protocols import cef, cef_keys, devicetime, kemp, keyvalues, syslog
from weir.protocols.devices.fortinet import event_time_us

__all__ = [
    "COLUMN_KEYS",
    "FIELDS",
    "Table",
    "cef_fields",
    "document",
    "fill",
    "finish",
    "is_header",
    "line",
    "module_name",
    "name",
    "to_microseconds",
]

name: Final = "cef"

_LARGEST: Final = (1 << 63) - 1

Table = dict[str, tuple[str, Callable[[str], Any] | None]]
"""By key: the field, and how its value is made, None for as it is. A conversion may answer None for a value that cannot be, which
then stays in cef_extensions alone; or a dict, where a value fills other fields."""


@lru_cache(maxsize=256)
def _transport(text: str) -> dict[str, Any]:
    """`proto` is to be a transport protocol; some senders write the application's, SonicWall both: `tcp/https`."""
    first, _, application = text.partition("/")
    found = keyvalues.transport(first)
    if found is None:
        return {"network_protocol": text.lower()}
    fields: dict[str, Any] = {"network_transport": found[0], "network_iana_number": found[1]}
    if application:
        fields["network_protocol"] = application.lower()
    return fields


def _url(text: str) -> dict[str, Any]:
    return {"url_original": text, "url_domain": keyvalues.url_host(text)}


def _hash(text: str) -> dict[str, Any] | None:
    found = keyvalues.hash_kind(text)
    return None if found is None else {f"file_hash_{found[0]}": found[1]}


def _application(text: str) -> dict[str, Any]:
    return {"network_application": text, "network_protocol": text.lower()}


_FIELDS: Final[Table] = {
    "src": ("source_ip", keyvalues.address),
    "spt": ("source_port", keyvalues.port),
    "dst": ("destination_ip", keyvalues.address),
    "dpt": ("destination_port", keyvalues.port),
    "smac": ("source_mac", keyvalues.mac),
    "dmac": ("destination_mac", keyvalues.mac),
    "sourceTranslatedAddress": ("source_nat_ip", keyvalues.address),
    "sourceTranslatedPort": ("source_nat_port", keyvalues.port),
    "destinationTranslatedAddress": ("destination_nat_ip", keyvalues.address),
    "destinationTranslatedPort": ("destination_nat_port", keyvalues.port),
    "shost": ("source_host", None),
    "dhost": ("destination_host", None),
    "dvchost": ("host_name", None),
    "deviceInboundInterface": ("observer_ingress_interface", None),
    "deviceOutboundInterface": ("observer_egress_interface", None),
    "proto": ("network_transport", _transport),
    "app": ("network_application", _application),
    "in": ("source_bytes", keyvalues.integer),
    "out": ("destination_bytes", keyvalues.integer),
    "suser": ("user_name", None),
    "suid": ("user_id", None),
    "sntdom": ("user_domain", None),
    "duser": ("destination_user_name", None),
    "dntdom": ("destination_user_domain", None),
    "request": ("url_original", _url),
    "requestMethod": ("http_request_method", None),
    "requestClientApplication": ("user_agent_original", None),
    "fname": ("file_name", None),
    "filePath": ("file_path", None),
    "fsize": ("file_size", keyvalues.integer),
    "fileHash": ("", _hash),
    "TrendMicroDsFileMD5": ("", _hash),
    "TrendMicroDsFileSHA1": ("", _hash),
    "TrendMicroDsFileSHA256": ("", _hash),
    "sproc": ("process_name", None),
    "deviceProcessName": ("process_name", None),
    "reason": ("event_reason", None),
    "act": ("device_action", None),
    "cat": ("rule_category", None),
    "msg": ("message", None),
}


def _with_full_names(table: Table) -> Table:
    return table | {cef_keys.FULL_NAMES[key]: value for key, value in table.items() if key in cef_keys.FULL_NAMES}


FIELDS: Final[Table] = _with_full_names(_FIELDS)


def _seconds(text: str) -> int | None:
    seconds = keyvalues.integer(text)
    return None if seconds is None or seconds > _LARGEST // 1_000_000_000 else seconds * 1_000_000_000


# By the format, `in` is what flows from source to destination. These mean what the source has received: Fortinet's "Traffic log
# support for CEF" makes out=398 in=1605 of sentbyte=398 rcvdbyte=1605, and SonicWall writes sent and rcvd under these names.
_AS_SEEN_FROM_THE_SOURCE: Final[Table] = _with_full_names({
    "in": ("destination_bytes", keyvalues.integer),
    "out": ("source_bytes", keyvalues.integer),
})  # fmt: skip
_VENDORS: Final[dict[str, Table]] = {
    "Fortinet": FIELDS | _AS_SEEN_FROM_THE_SOURCE | {
        "FTNTFGTduration": ("event_duration", _seconds),
        "FTNTFGTsentpkt": ("source_packets", keyvalues.integer),
        "FTNTFGTrcvdpkt": ("destination_packets", keyvalues.integer),
        "FTNTFGTpolicyid": ("rule_id", None),
        "FTNTFGTpolicyname": ("rule_name", None),
        "FTNTFGTsrcmac": ("source_mac", keyvalues.mac),
        "FTNTFGTdstmac": ("destination_mac", keyvalues.mac),
    },
    "SonicWall": FIELDS | _AS_SEEN_FROM_THE_SOURCE,
}  # fmt: skip

# Keys that CommonSecurityLog has a column for; everything else lands in its AdditionalExtensions.
COLUMN_KEYS: Final = frozenset(
    """
    act app c6a1 c6a1Label c6a2 c6a2Label c6a3 c6a3Label c6a4 c6a4Label cat cfp1 cfp1Label cfp2 cfp2Label cfp3 cfp3Label
    cfp4 cfp4Label cn1 cn1Label cn2 cn2Label cn3 cn3Label cnt cs1 cs1Label cs2 cs2Label cs3 cs3Label cs4 cs4Label cs5
    cs5Label cs6 cs6Label destinationDnsDomain destinationServiceName destinationTranslatedAddress destinationTranslatedPort
    deviceCustomDate1 deviceCustomDate1Label deviceCustomDate2 deviceCustomDate2Label deviceDirection deviceDnsDomain
    deviceExternalId deviceFacility deviceInboundInterface deviceNtDomain deviceOutboundInterface devicePayloadId
    deviceProcessName deviceTranslatedAddress dhost dmac dntdom dpid dpriv dproc dpt dst dtz duid duser dvc dvchost dvcmac
    dvcpid end externalId fileCreateTime fileHash fileId fileModificationTime filePath filePermission fileType flexDate1
    flexDate1Label flexNumber1 flexNumber1Label flexNumber2 flexNumber2Label flexString1 flexString1Label flexString2
    flexString2Label fname fsize in msg oldFileCreateTime oldFileHash oldFileId oldFileModificationTime oldFileName
    oldFilePath oldFilePermission oldFileSize oldFileType out outcome proto reason request requestClientApplication
    requestContext requestCookies requestMethod rt shost smac sntdom sourceDnsDomain sourceServiceName
    sourceTranslatedAddress sourceTranslatedPort spid spriv sproc spt src start suid suser type
    """.split()  # noqa: SIM905 - a list of 130 quoted names is harder to read
)


def fill(fields: dict[str, Any], pairs: dict[str, str], table: Table) -> None:
    """Put the values of pairs into the fields that a table has for their keys; a field that is there already stays.

    Custom fields (`cs1` and `cs1Label`, and whatever else comes with a label) become `labels`, named by the label.
    """
    labels: dict[str, str] = {}
    get = table.get
    for key, value in pairs.items():
        target = get(key)
        if target is None:
            if value and key.endswith("Label") and (text := _labelled(pairs, key[:-5])):
                labels.setdefault(value.strip(' "') or key, text)
        elif value:
            field, convert = target
            if field not in fields:
                if convert is None:
                    fields[field] = value
                elif (found := convert(value)) is not None:
                    if found.__class__ is dict:
                        for part in found:
                            if part not in fields:
                                fields[part] = found[part]
                    else:
                        fields[field] = found
    if labels:
        fields["labels"] = labels
        for label, field in _RULE_LABELS:
            if label in labels:
                fields.setdefault(field, labels[label])


# CEF has no key for the rule that a device followed: senders put it into a custom field, by one of these names.
_RULE_LABELS: Final = (
    ("Rule", "rule_name"), ("Rule Name", "rule_name"), ("RuleName", "rule_name"), ("rule_name", "rule_name"),
    ("acl_rule_name", "rule_name"), ("Rule ID", "rule_id"), ("RuleID", "rule_id"), ("rule_id", "rule_id"),
)  # fmt: skip


def _labelled(pairs: dict[str, str], key: str) -> str | None:
    """The value that a label names; one of the two may have its short name and the other its full one."""
    return pairs.get(key) or pairs.get(cef_keys.FULL_NAMES.get(key) or cef_keys.SHORT_NAMES.get(key) or key)


_SPACES = re.compile(r"\s+")
_OUTCOMES: Final = {
    "success": "success",
    "succeeded": "success",
    "successful": "success",
    "ok": "success",
    "allow": "success",
    "allowed": "success",
    "failure": "failure",
    "failed": "failure",
    "fail": "failure",
    "deny": "failure",
    "denied": "failure",
    "blocked": "failure",
}


def cef_fields(event: cef.CefEvent, context: Context) -> dict[str, Any]:
    """Event fields of a CEF record, vendor specific ones included; `context` says what zone times without one are in."""
    extension = event.extension
    fields: dict[str, Any] = {
        "timestamp": None,
        "event_module": module_name(event.device_vendor) or "cef",
        "event_dataset": "cef",
        "cef_version": int(event.version.partition(".")[0]),
        "event_code": event.device_event_class_id,
        "cef_name": event.name,
        "cef_severity": event.severity,
        "event_severity": cef.severity_number(event.severity),
        "cef_extensions": extension,
        "observer_product": event.device_product or None,
        "observer_version": event.device_version or None,
        "event_action": event.name or None,
    }
    # What the operator said of the source stands where the device does not name its vendor.
    if event.device_vendor:
        fields["observer_vendor"] = event.device_vendor
    if kemp.is_kemp(event):
        add_esp(fields, event)
    else:
        fill(fields, extension, _VENDORS.get(event.device_vendor, FIELDS))
        if not COLUMN_KEYS.issuperset(extension):
            rest = [f"{key}={value}" for key, value in extension.items() if key not in COLUMN_KEYS]
            fields["cef_additional_extensions"] = ";".join(rest)
    finish(fields, extension, context)
    return fields


@lru_cache(maxsize=1024)
def module_name(vendor: str) -> str:
    """A vendor's name as event.module has it: `trend-micro`."""
    return _SPACES.sub("-", vendor.lower())


def finish(fields: dict[str, Any], pairs: dict[str, str], context: Context) -> None:
    """The fields that several pairs make together: outcome, IPv6 addresses, times."""
    get = pairs.get
    if (outcome := get("outcome") or get("eventOutcome")) is not None and "event_outcome" not in fields:
        fields["event_outcome"] = _OUTCOMES.get(outcome.lower(), "unknown")
    for key, word, field in _IPV6:
        if (text := get(key)) and field not in fields and word in get(f"{key}Label", word).lower():
            fields[field] = keyvalues.address(text)
    for host, field in (("source_host", "source_ip"), ("destination_host", "destination_ip")):
        # Some senders have an address where the name belongs.
        if field not in fields and (text := fields.get(host)) and (found := keyvalues.address(text)) is not None:
            fields[field] = found
    if (ip := fields.get("source_ip") or fields.get("destination_ip")) is not None:
        fields["network_type"] = "ipv6" if ":" in ip else "ipv4"
    start, end, receipt = get("start") or get("startTime"), get("end") or get("endTime"), get("rt") or get("deviceReceiptTime")
    if start is None and end is None and receipt is None:
        for key in _VENDORS_TIMES:
            if key in pairs and (moment := event_time_us(pairs[key]) or to_microseconds(pairs[key], context.to_utc, context)):
                fields["timestamp"] = moment
                return
        return
    to_utc = _clock(get("dtz") or get("deviceTimeZone"), context)
    begun, over = to_microseconds(start, to_utc, context), to_microseconds(end, to_utc, context)
    fields["event_start"], fields["event_end"] = begun, over
    if begun is not None and over is not None and 0 <= (duration := (over - begun) * 1000) <= _LARGEST:
        fields["event_duration"] = duration
    for moment in (to_microseconds(receipt, to_utc, context), over, begun):
        if moment is not None:
            fields["timestamp"] = moment
            break


_VENDORS_TIMES: Final = ("FTNTFGTeventtime", "FortinetFortiGateeventtime", "BitdefenderGZDetectionTime")
"""Keys of vendors who leave rt out and put the time under a name of their own."""

# The dictionary's IPv6 addresses; some senders put something else there and say so in the label.
_IPV6: Final = (("c6a2", "source", "source_ip"), ("c6a3", "dest", "destination_ip"))


def to_microseconds(text: str | None, to_utc: ToUtc, context: Context) -> int | None:
    """Microseconds UTC of a time as devices write them; None for anything else."""
    if not text:
        return None
    if len(text) == 13 and text.isdecimal():
        return int(text) * 1000
    moment = devicetime.parse(text, context.received_us)
    if moment is None:
        return None
    return moment.microseconds if moment.zoned else to_utc(moment.microseconds)


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def _clock(zone: str | None, context: Context) -> ToUtc:
    """How a time without zone becomes UTC: by the zone that the device names (`dtz`), else by that of its source."""
    if zone is None:
        return context.to_utc
    offset = devicetime.zone_offset(zone)
    if offset is not None:
        return lambda local: local - offset
    return local_time(zone, context.received_us, 0) if zone in _zone_names() else context.to_utc


def line(text: str, context: Context) -> Decoded | None:
    """A line that holds CEF, behind whatever header. Raises CefError (a ValueError) as `cef.parse`."""
    if "CEF:" not in text or (start := cef.find(text)) < 0 or (start > 0 and not is_header(text[:start])):
        return None
    original = text[start:]
    fields = cef_fields(cef.parse(original), context)
    fields["event_original"] = original
    if start > 0:
        add_header(fields, text[:start], context)
    return "cef", fields


# Priority, time, host, tag: with one of the first two up to four words, else one. Else a word that a stranger may choose, such as
# the user whom sshd has turned away or a browser's name for itself, could make any event of a line about it.
_WORD = r"""[^\s"'=(|]{1,255}+(?:\s++|(?<=[:\]>]))"""
_TIME = r"(?:[A-Z][a-z]{2}\s{1,2}[0-9]{1,2}\s(?:[0-9]{4}\s)?|[0-9]{4}-[0-9]{2}-[0-9]{2}[T\s])[0-9]{2}:[0-9]{2}:[0-9]{2}\S{0,24}\s+"
_KIWI = r"(?:Original Address=[0-9A-Fa-f:.]{2,45}\s)?"
_HEADER = re.compile(
    rf"\s*{_KIWI}(?:<[0-9]{{1,3}}>(?:1\s)?\s*(?:{_TIME})?(?:{_WORD}){{0,4}}+|(?:1\s)?{_TIME}(?:{_WORD}){{0,4}}+|{_WORD})?\s*"
)
_LONGEST_HEADER: Final = 512


def is_header(text: str) -> bool:
    """Whether what stands in front of a payload can be what syslog puts there, and not a message that quotes one."""
    if len(text) > _LONGEST_HEADER:
        return False
    # A relay may have put one header in front of another.
    while (second := text.find("<", 1)) > 0 and text[second + 1 : second + 2].isdigit():
        if _HEADER.fullmatch(text[:second]) is None:
            return False
        text = text[second:]
    return _HEADER.fullmatch(text) is not None


_SHORTEST_HEADER: Final = len("Sep 21 14:13:20 ")


def add_header(fields: dict[str, Any], header: str, context: Context) -> None:
    """Time and host of the syslog header in front of a payload, where that names none: of a file's line, of a wrapped one."""
    if len(header) < _SHORTEST_HEADER:
        return
    message = syslog.parse(header.encode("utf-8", "replace"), received_us=context.received_us, to_utc=context.to_utc)
    if message.format != "unparsed":
        for field, value in (("timestamp", message.timestamp_us), ("host_name", message.hostname)):
            if fields.get(field) is None:
                fields[field] = value


def document(document: dict[str, object], context: Context) -> Decoded | None:
    """A document whose `message` is a line of CEF, as a shipper of log files sends it."""
    message = document.get("message")
    return line(message, context) if isinstance(message, str) else None
