"""Documents as Filebeat ships them: Suricata EVE lines in `message` and decoded at the root, SensorFleet envelopes, log lines."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from weir.local.generate.units import MALFORMED, NAMES, Dice, Unit, bsd_time, iso_second, mark, sample_lines, vary_address

__all__ = [
    "EVE_SAMPLES",
    "FLEET_SAMPLES",
    "FLOW_ID_BASE",
    "BeatsUnits",
    "around_eve",
    "eve_record",
    "log_document",
    "sensorfleet_document",
]

FLOW_ID_BASE: Final = 1_100_000_000_000_000
"""The flow_id of a Suricata record is this plus the document's number: a number is all the room that some records have."""

_VERSION: Final = "8.12.2"
_SENSORS: Final = 4
_HOSTS: Final = 40
_BSD_TIME: Final = re.compile(r"^[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}")

_Json = dict[str, Any]

EVE_SAMPLES: Final[tuple[_Json, ...]] = tuple(orjson.loads(line) for line in sample_lines("suricata-eve.ndjson"))
"""Suricata records of all kinds there are."""


def _is_routine(record: _Json) -> bool:
    """Whether it is an ordinary day's: an alert of the two gravest severities is not, nor an error of an instrument."""
    return record.get("alert", {}).get("severity", 9) > 2 and record.get("severity") != "error" and "anomaly" not in record


_ROUTINE_EVE: Final = tuple(record for record in EVE_SAMPLES if _is_routine(record))
FLEET_SAMPLES: Final[tuple[_Json, ...]] = tuple(map(orjson.loads, sample_lines("sensorfleet.ndjson")))
"""Events of SensorFleet sensors of all kinds there are."""
_FLEET: Final = tuple(record for record in FLEET_SAMPLES if _is_routine(record) and _is_routine(record["data"]))
_GENERIC: Final[tuple[_Json, ...]] = tuple(orjson.loads(line) for line in sample_lines("filebeat-syslog.ndjson"))
_DATASETS: Final = {"alert": "ids-alert", "flow": "network-flow", "netflow": "network-flow"}


class BeatsUnits:
    """The documents of one run.

    Args:
        seed: what the values are drawn from.
        amount: documents in all.
        specials: one of them is not JSON.
    """

    def __init__(self, seed: int, amount: int, *, specials: bool = True) -> None:
        self.seed = seed
        self.amount = amount
        self._malformed = amount // 3 if specials and amount else -1

    def unit(self, number: int, now_us: int) -> Unit:
        """This number's document as of `now_us` (microseconds UTC)."""
        name = mark(self.seed, "b", number)
        if number == self._malformed:
            return Unit(b'{"@timestamp":"' + _beat_time(now_us).encode() + b'","message":"cut short ' + name.encode(), MALFORMED)
        dice = Dice(self.seed, "beats", number)
        form = dice.below(20)
        if form < 9:
            document, dataset = _eve_in_message(dice, number, now_us)
        elif form < 13:
            document, dataset = _eve_at_root(dice, number, now_us)
        elif form < 16:
            document, dataset = sensorfleet_document(dice, name, number, now_us)
        else:
            document, dataset = log_document(dice, name, number, now_us)
        return Unit(orjson.dumps(document), dataset)


def _beat_time(now_us: int) -> str:
    return f"{iso_second(now_us // 1_000_000)}.{now_us // 1000 % 1000:03d}Z"


def _eve_time(now_us: int) -> str:
    return f"{iso_second(now_us // 1_000_000)}.{now_us % 1_000_000:06d}+0000"


def _shipper(host: str, agent: str, path: str, offset: int, now_us: int) -> _Json:
    """What Filebeat puts around a line that it read from a file."""
    return {
        "@timestamp": _beat_time(now_us),
        "@metadata": {"beat": "filebeat", "type": "_doc", "version": _VERSION},
        "agent": {"name": host, "type": "filebeat", "version": _VERSION, "id": agent},
        "ecs": {"version": "8.0.0"},
        "host": {"name": host},
        "input": {"type": "filestream"},
        "log": {"file": {"path": path}, "offset": offset},
    }


def _agent(number: int) -> str:
    return f"5d7a0c1e-91b3-4f0e-a7c9-2b8e64f1{number:04x}"


def around_eve(dice: Dice, number: int, now_us: int) -> _Json:
    """What Filebeat puts around a line of eve.json."""
    sensor = dice.below(_SENSORS)
    return _shipper(f"ids-{sensor}.example.test", _agent(sensor), "/var/log/suricata/eve.json", number * 700, now_us)


def _eve_in_message(dice: Dice, number: int, now_us: int) -> tuple[_Json, str]:
    record = eve_record(dice.pick(_ROUTINE_EVE), dice, number, now_us)
    document = around_eve(dice, number, now_us)
    document["event"] = {"module": "suricata", "dataset": "suricata.eve"}
    document["message"] = orjson.dumps(record).decode()
    return document, _dataset(record)


def _eve_at_root(dice: Dice, number: int, now_us: int) -> tuple[_Json, str]:
    record = eve_record(dice.pick(_ROUTINE_EVE), dice, number, now_us)
    # Some EVE records have a `host` of their own; Filebeat's keys do not overwrite those of a decoded line.
    return around_eve(dice, number, now_us) | record, _dataset(record)


def _dataset(record: _Json) -> str:
    return _DATASETS.get(record["event_type"], "network-log")


def eve_record(sample: _Json, dice: Dice, number: int, now_us: int) -> _Json:
    """A Suricata record with other addresses, ports, counters and names; the sample itself stays as it is."""
    record = dict(sample)
    record["timestamp"] = _eve_time(now_us)
    if "flow_id" in record:
        record["flow_id"] = FLOW_ID_BASE + number
    if "src_ip" in record:
        record["src_ip"] = vary_address(record["src_ip"], dice)
        record["dest_ip"] = vary_address(record["dest_ip"], dice)
    # A client's port is the one above 1023, whichever side the record names first.
    for port in ("src_port", "dest_port"):
        if record.get(port, 0) > 10_000:
            record[port] = dice.between(10_001, 65535)
    if "flow" in record:
        about_names = 53 in {record.get("src_port"), record.get("dest_port")}
        record["flow"] = _flow(record["flow"], dice, now_us, most=4 if about_names else 400)
    if "netflow" in record:
        packets = dice.between(1, 2000)
        record["netflow"] = record["netflow"] | _period(dice, now_us) | {"pkts": packets, "bytes": packets * dice.between(60, 1400)}
    for layer, key in (("http", "hostname"), ("tls", "sni"), ("quic", "sni")):
        if key in record.get(layer, ()):
            record[layer] = record[layer] | {key: f"h{dice.below(5000)}.{record[layer][key]}"}
    if "url" in record.get("http", ()):
        record["http"] = record["http"] | {"length": dice.below(400_000)}
    if "rrname" in record.get("dns", ()):
        record["dns"] = record["dns"] | {"rrname": f"h{dice.below(5000)}.{record['dns']['rrname']}", "id": dice.below(65536)}
    return record


def _period(dice: Dice, now_us: int) -> _Json:
    end = now_us - dice.between(1_000, 900_000)
    start = end - dice.between(1_000, 60_000_000)
    return {"start": _eve_time(start), "end": _eve_time(end), "age": (end - start) // 1_000_000}


def _flow(sample: _Json, dice: Dice, now_us: int, most: int) -> _Json:
    """Counters of a flow of so many packets at most; questions of names take a few."""
    there, back = dice.between(1, most), dice.below(2 * most)
    flow = sample | {
        "pkts_toserver": there,
        "pkts_toclient": back,
        "bytes_toserver": there * dice.between(60, 1400),
        "bytes_toclient": back * dice.between(60, 1400),
    }
    # An alert's flow is not over: it has a start only.
    period = _period(dice, now_us)
    return flow | (period if "end" in sample else {"start": period["start"]})


def sensorfleet_document(dice: Dice, name: str, number: int, now_us: int) -> tuple[_Json, str]:
    """An event of a SensorFleet sensor with `name` in its message, and the dataset it belongs to."""
    sample = dice.pick(_FLEET)
    sensor = f"harbour-sensor-{dice.below(_SENSORS) + 1}"
    event = dict(sample)
    event["source_sensor"] = sensor
    event["source_instrument"] = f"{sample['source_instrument'].partition('@')[0]}@{sensor}"
    event["sensor_event_id"] = 20_000 + number
    event["context_uuid"] = f"3f0c5a10-77aa-4c1e-9d02-{dice.below(16**12):012x}"
    event["uuid"] = f"9b1d6c44-0e5f-4b8a-8f31-{number:012x}"
    event["timestamp"] = now_us / 1_000_000
    event["message"] = f"{sample['message']} {name}"
    data = event["data"]
    dataset = "sensor"
    if "event_type" in data:
        data = eve_record(data, dice, number, now_us)
        dataset = _dataset(data)
    elif "_path" in data:
        data = data | {"ts": (now_us - dice.below(2_000_000)) / 1_000_000, "uid": f"C{dice.below(16**16):016x}"}
        data["id.orig_h"] = vary_address(data["id.orig_h"], dice)
        data["id.orig_p"] = dice.between(10_001, 65535)
        dataset = {"conn": "network-flow", "notice": "ids-alert"}.get(data["_path"], "network-log")
    elif "processed" in data:
        data = data | {"processed": dice.below(100_000)}
    elif "user" in data:
        data = data | {"user": f"{dice.pick(NAMES)}{dice.below(500)}", "address": vary_address(data["address"], dice)}
    event["data"] = data
    # The sensor's log forwarder is Logstash: it gives each event a time of its own, and no agent.
    return event | {"@timestamp": _beat_time(now_us), "@version": "1"}, dataset


def log_document(dice: Dice, name: str, number: int, now_us: int) -> tuple[_Json, str]:
    """A line of a log file as Filebeat ships it, with `name` in its message, and the dataset it belongs to."""
    sample = dice.pick(_GENERIC)
    host = f"{sample['host']['name'].partition('.')[0]}-{dice.below(_HOSTS)}.example.test"
    document = _shipper(host, _agent(dice.below(_HOSTS)), sample["log"]["file"]["path"], number * 97, now_us)
    document |= {key: sample[key] for key in ("event", "fileset", "fields", "tags") if key in sample}
    message: str = sample["message"]
    if message.startswith("{"):
        inner = orjson.loads(message)
        document["message"] = orjson.dumps(
            inner | {"timestamp": _beat_time(now_us), "ms": dice.below(5000), "trace": name}
        ).decode()
    else:
        # A line of syslog tells its own time, and that is the event's.
        rest = _BSD_TIME.sub("", message)
        time = bsd_time(now_us // 1_000_000) if rest != message else ""
        document["message"] = f"{time}{rest} {name}"
    return document, "sensor"
