"""The units that `bench.compare` measures with: four batches of each kind that people send, made by the generators."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from bench.inputs import RECEIVED_US, v9_units
from weir.local.generate.beats import EVE_SAMPLES, around_eve, eve_record, log_document, sensorfleet_document
from weir.local.generate.syslog import SyslogUnits
from weir.local.generate.units import NAMES, Dice, bsd_time, iso_second, sample_lines, vary_address

__all__ = ["BATCH_UNITS", "LOADS"]

BATCH_UNITS: Final = 250
_DATAGRAMS: Final = 50
_SEED: Final = 11
_APART_US: Final = 37_003

One = Callable[[Dice, int, int], dict[str, Any] | str]
"""A document or a line, from chance, its number, and the time in microseconds UTC."""

Make = Callable[[int], tuple[str, list[list[bytes]]]]
"""From a number of batches to the processor and the units of each batch."""


def _each(processor: str, one: One) -> Make:
    def unit(number: int) -> bytes:
        made = one(Dice(_SEED, "compared", number), number, RECEIVED_US + _APART_US * number)
        return made.encode() if isinstance(made, str) else orjson.dumps(made)

    return lambda batches: (processor, _batches(map(unit, range(batches * BATCH_UNITS)), batches))


def _batches(units: Iterator[bytes], batches: int) -> list[list[bytes]]:
    return [[next(units) for _ in range(BATCH_UNITS)] for _ in range(batches)]


def _lines(*forms: str) -> Make:
    """Lines of the sources whose form begins with one of these."""

    def make(batches: int) -> tuple[str, list[list[bytes]]]:
        lines = SyslogUnits(_SEED, 40 * batches * BATCH_UNITS, mass_deletes=0, specials=False)
        numbers = (number for number in range(lines.amount) if lines.source(number).form.startswith(forms))
        return "syslog", _batches((lines.unit(number, RECEIVED_US).data for number in numbers), batches)

    return make


def _v9(batches: int) -> tuple[str, list[list[bytes]]]:
    """Each batch with the template in its first datagram."""
    template, *datagrams = (unit.data for unit in v9_units(batches * _DATAGRAMS * 24))
    return "netflow", [[template, *datagrams[n * _DATAGRAMS : (n + 1) * _DATAGRAMS]] for n in range(batches)]


def _from_file(record: dict[str, Any], dice: Dice, number: int, now_us: int, path: str) -> dict[str, Any]:
    """A record in the message of a document as Filebeat ships it."""
    document = around_eve(dice, number, now_us)
    document["log"]["file"]["path"] = path
    return document | {"message": orjson.dumps(record).decode()}


def _eve(dice: Dice, number: int, now_us: int) -> dict[str, Any]:
    return eve_record(dice.pick(EVE_SAMPLES), dice, number, now_us)


def _eve_in_message(dice: Dice, number: int, now_us: int) -> dict[str, Any]:
    document = _from_file(_eve(dice, number, now_us), dice, number, now_us, "/var/log/suricata/eve.json")
    return document | {"event": {"module": "suricata", "dataset": "suricata.eve"}}


def _log_document(dice: Dice, number: int, now_us: int) -> dict[str, Any]:
    return log_document(dice, f"wn-{number}", number, now_us)[0]


def _sensorfleet(dice: Dice, number: int, now_us: int) -> dict[str, Any]:
    return sensorfleet_document(dice, f"wn-{number}", number, now_us)[0]


_ZEEK: Final = [orjson.loads(line) for line in sample_lines("zeek.ndjson")]
_CONN: Final = next(record for record in _ZEEK if record["_path"] == "conn")
_CONN_LINES: Final = sample_lines("zeek-conn.log")
_CONN_HEADER: Final = [line for line in _CONN_LINES if line.startswith("#") and not line.startswith("#close")]
_CONN_ROWS: Final = [line for line in _CONN_LINES if not line.startswith("#")]


def _zeek(dice: Dice, number: int, now_us: int, record: dict[str, Any]) -> dict[str, Any]:
    whole = record | {"ts": now_us / 1e6, "_write_ts": f"{iso_second(now_us // 1_000_000)}.{now_us % 1_000_000:06d}Z"}
    if "uid" in record:
        whole |= {"uid": f"C{dice.below(16**16):016x}", "id.orig_p": dice.between(10_001, 65_535)}
        whole["id.orig_h"] = vary_address(record["id.orig_h"], dice)
    if "duration" in record:
        whole |= {"duration": dice.below(90_000_000) / 1e6, "orig_pkts": dice.below(900), "resp_pkts": dice.below(900)}
    return whole


def _zeek_conn(dice: Dice, number: int, now_us: int) -> dict[str, Any]:
    return _zeek(dice, number, now_us, _CONN)


def _zeek_all(dice: Dice, number: int, now_us: int) -> dict[str, Any]:
    return _zeek(dice, number, now_us, dice.pick(_ZEEK))


def _zeek_in_message(dice: Dice, number: int, now_us: int) -> dict[str, Any]:
    return _from_file(_zeek_all(dice, number, now_us), dice, number, now_us, "/opt/zeek/logs/current/json.log")


def _zeek_tsv(batches: int) -> tuple[str, list[list[bytes]]]:
    """Lines of conn.log in Filebeat's documents, each batch with the header in front."""

    def document(line: str, number: int) -> bytes:
        made = around_eve(Dice(_SEED, "tsv", number), number, RECEIVED_US)
        made["log"]["file"]["path"] = "/opt/zeek/logs/current/conn.log"
        return orjson.dumps(made | {"message": line})

    def row(number: int) -> str:
        dice = Dice(_SEED, "row", number)
        columns = dice.pick(_CONN_ROWS).split("\t")
        columns[0] = f"{(RECEIVED_US + _APART_US * number) / 1e6:.6f}"
        columns[1], columns[3] = f"C{dice.below(16**16):016x}", str(dice.between(10_001, 65_535))
        columns[2] = vary_address(columns[2], dice)
        return "\t".join(columns)

    heads = len(_CONN_HEADER)
    return "beats", [
        [document(line, number) for number, line in enumerate(_CONN_HEADER)]
        + [document(row(number), number) for number in range(n * BATCH_UNITS, (n + 1) * BATCH_UNITS - heads)]
        for n in range(batches)
    ]


_SNORT: Final = [line for line in sample_lines("snort-alerts.log") if re.match(r"[0-9/]+-[0-9:.]+\s+\[\*\*\]", line)]


def _snort_fast(dice: Dice, number: int, now_us: int) -> str:
    line = re.sub(r"(?<=\} )[0-9.]+", lambda found: vary_address(found[0], dice), dice.pick(_SNORT))
    return f"<33>{bsd_time(now_us // 1_000_000)} ids-{dice.below(4)} snort[{dice.between(300, 9000)}]: {line}"


def _sshd(dice: Dice, number: int, now_us: int) -> str:
    when, port = bsd_time(now_us // 1_000_000), dice.between(10_001, 65_535)
    host, process, user = f"bastion{dice.below(40)}", dice.between(300, 30_000), f"{dice.pick(NAMES)}{dice.below(400)}"
    if number % 2:
        return f"<78>{when} {host} CRON[{process}]: (www-data) CMD (php /srv/app/cron.php {port})"
    word = dice.pick(("Accepted password", "Failed password"))
    return f"<38>{when} {host} sshd[{process}]: {word} for {user} from 10.20.{dice.below(200)}.{dice.below(250)} port {port} ssh2"


def _nobodys(dice: Dice, number: int, now_us: int) -> str:
    """Lines of programs that nobody knows."""
    when, host = bsd_time(now_us // 1_000_000), f"app{dice.below(40)}"
    return (
        f"<134>{when} {host} billing[{dice.between(300, 30_000)}]: order {number} of {dice.pick(NAMES)} took {dice.below(900)} ms"
    )


_WINDOWS: Final = [orjson.loads(line) for line in sample_lines("winlogbeat.ndjson")]
_FLOWS: Final = [orjson.loads(line) for line in sample_lines("filebeat-netflow.ndjson")]


def _windows(dice: Dice, number: int, now_us: int) -> dict[str, Any]:
    document: dict[str, Any] = dice.pick(_WINDOWS)
    return document | {"@timestamp": f"{iso_second(now_us // 1_000_000)}.{now_us // 1000 % 1000:03d}Z"}


def _filebeat_flows(dice: Dice, number: int, now_us: int) -> dict[str, Any]:
    document: dict[str, Any] = dice.pick(_FLOWS)
    source = vary_address(document["netflow"]["source_ipv4_address"], dice)
    return document | {
        "source": document["source"] | {"ip": source},
        "netflow": document["netflow"] | {"source_ipv4_address": source, "source_transport_port": dice.between(10_001, 65_535)},
    }


LOADS: Final[dict[str, Make]] = {
    "file-audit": _lines("qumulo-5424"),
    "kemp": _lines("kemp"),
    "vendor-cef": _lines("vendor"),
    "syslog": _lines("plain"),
    "syslog-sshd-cron": _each("syslog", _sshd),
    "syslog-unknown": _each("syslog", _nobodys),
    "snort-fast": _each("syslog", _snort_fast),
    "netflow-v9": _v9,
    "eve-raw": _each("beats", _eve),
    "eve-syslog": _each("syslog", lambda *given: "<134>Mar  1 12:00:00 ids suricata[12]: " + orjson.dumps(_eve(*given)).decode()),
    "eve-filebeat": _each("beats", _eve_in_message),
    "filebeat": _each("beats", _log_document),
    "filebeat-netflow": _each("beats", _filebeat_flows),
    "winlogbeat": _each("beats", _windows),
    "sensorfleet": _each("beats", _sensorfleet),
    "zeek-conn-json": _each("beats", _zeek_conn),
    "zeek-json": _each("beats", _zeek_all),
    "zeek-filebeat": _each("beats", _zeek_in_message),
    "zeek-conn-tsv": _zeek_tsv,
}
"""By name. A load that a checkout does not decode is a document or line of no known source to it."""
