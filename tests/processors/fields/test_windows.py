"""Windows events by the ways they come: logons become authentication events, all others stay sensor events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processors.fields.one import event_of, events_of

AUDIT = "Microsoft-Windows-Security-Auditing"


def winlog(event_id: int | str, data: dict[str, Any], keywords: str = "Audit Success", **more: Any) -> dict[str, Any]:
    """As Winlogbeat ships it."""
    return {
        "@timestamp": "2024-03-01T12:00:00.085652Z",
        "@metadata": {"beat": "winlogbeat", "version": "8.12.2"},
        "agent": {"name": "dc1", "type": "winlogbeat", "version": "8.12.2"},
        "host": {"name": "collector"},
        "event": {"code": str(event_id), "kind": "event", "provider": AUDIT},
        "message": "An event.",
        "tags": ["windows"],
        "winlog": {
            "event_id": event_id,
            "channel": "Security",
            "provider_name": AUDIT,
            "computer_name": "dc1.corp.example",
            "record_id": 4711,
            "keywords": [keywords],
            "event_data": data,
        },
        **more,
    }


TARGET = {"TargetUserName": "alice", "TargetDomainName": "CORP", "TargetUserSid": "S-1-5-21-1-2-3-1001", "TargetLogonId": "0x1008e"}
SUBJECT = {"SubjectUserName": "DC1$", "SubjectDomainName": "CORP", "SubjectUserSid": "S-1-5-18", "SubjectLogonId": "0x3e7"}


def test_a_logon_says_who_from_where_how_and_by_which_way() -> None:
    data = {
        **SUBJECT, **TARGET, "LogonType": "10", "IpAddress": "::ffff:192.0.2.7", "IpPort": "50123", "WorkstationName": "WS1",
        "AuthenticationPackageName": "Negotiate", "LmPackageName": "-", "LogonProcessName": "User32 ",
        "ProcessName": "C:\\Windows\\System32\\winlogon.exe", "KeyLength": "0",
    }  # fmt: skip
    dataset, event = event_of(winlog(4624, data))
    assert dataset == "authentication"
    assert {
        "event_module": "windows", "event_dataset": "windows.security", "event_category": ["authentication"],
        "event_type": ["start"],
        "event_action": "logged-in", "event_outcome": "success", "event_code": "4624", "user_name": "alice", "user_domain": "CORP",
        "user_id": "S-1-5-21-1-2-3-1001", "source_ip": "192.0.2.7", "source_port": 50123, "source_host": "WS1",
        "logon_type": "remote_interactive", "logon_type_code": 10, "logon_id": "0x1008e", "authentication_protocol": "Negotiate",
        "process_path": "C:\\Windows\\System32\\winlogon.exe", "process_name": "winlogon.exe", "host_name": "dc1.corp.example",
        "winlog_channel": "Security", "winlog_provider": AUDIT, "winlog_record_id": "4711", "winlog_keywords": ["Audit Success"],
        "agent_type": "winlogbeat", "tags": ["windows"], "message": "An event.", "timestamp": 1_709_294_400_085_652,
        "observer_vendor": "Microsoft", "observer_product": "Windows",
    }.items() <= event.items()  # fmt: skip
    assert event["labels"] == {"LogonProcessName": "User32"}
    assert json.loads(event["document"])["winlog"]["event_data"]["KeyLength"] == "0"


@pytest.mark.parametrize(
    ("event_id", "data", "expected"),
    [
        (
            4625,
            {**TARGET, "Status": "0xc000006d", "SubStatus": "0xC000006A", "LogonType": "3", "AuthenticationPackageName": "NTLM"},
            ("logon-failed", "failure", ["start"], "alice", "0xC000006A", "wrong password"),
        ),
        (
            4625,
            {**TARGET, "Status": "0xc000015b", "SubStatus": "0x0"},
            ("logon-failed", "failure", ["start"], "alice", "0xc000015b", "logon type not granted"),
        ),
        (4634, {**TARGET, "LogonType": "3"}, ("logged-out", "success", ["end"], "alice", None, None)),
        (
            4648,
            {**SUBJECT, **TARGET, "TargetServerName": "fs1"},
            ("logged-in-explicit", "success", ["start"], "DC1$", None, None),
        ),
        (4647, TARGET, ("logged-out", "success", ["end"], "alice", None, None)),
        (4770, {**TARGET, "ServiceName": "krbtgt"}, ("kerberos-service-ticket-renewed", "success", ["start"], "alice", None, None)),
        (4740, {**SUBJECT, "TargetUserName": "alice"}, ("locked-out-user-account", "success", ["info"], "DC1$", None, None)),
        (
            4768,
            {"TargetUserName": "alice", "Status": "0x6", "ServiceName": "krbtgt/CORP"},
            ("kerberos-authentication-ticket-requested", "failure", ["start"], "alice", "0x6", "user does not exist"),
        ),
        (
            4769,
            {"TargetUserName": "alice@CORP.EXAMPLE", "TargetDomainName": "CORP.EXAMPLE", "Status": "0x0", "ServiceName": "FS1$"},
            ("kerberos-service-ticket-requested", "success", ["start"], "alice", "0x0", None),
        ),
        (
            4771,
            {"TargetUserName": "alice", "TargetSid": "S-1-5-21-1", "Status": "0x18", "IpAddress": "::1", "IpPort": "0"},
            ("kerberos-preauth-failed", "failure", ["start"], "alice", "0x18", "wrong password"),
        ),
        (
            4776,
            {"PackageName": "MICROSOFT_AUTHENTICATION_PACKAGE_V1_0", "TargetUserName": "alice", "Workstation": "\\\\WS1",
             "Status": "0xc0000234"},
            ("credential-validated", "failure", ["start"], "alice", "0xc0000234", "account locked out"),
        ),
    ],
    ids=["4625", "4625 by status", "4634", "4648", "4647", "4770", "4740", "4768", "4769", "4771", "4776"],
)  # fmt: skip
@pytest.mark.parametrize("as_text", [False, True], ids=["number", "text"])
def test_each_logon_event_has_its_action_outcome_user_and_reason(
    event_id: int, data: dict[str, Any], expected: tuple[Any, ...], as_text: bool
) -> None:
    dataset, event = event_of(winlog(str(event_id) if as_text else event_id, data))
    assert dataset == "authentication"
    names = ("event_action", "event_outcome", "event_type", "user_name", "status_code", "event_reason")
    assert tuple(event[name] for name in names) == expected
    assert event["event_category"] == ["authentication"]


def test_whom_it_was_done_to_is_told_apart_from_who_did_it() -> None:
    _, explicit = event_of(winlog(4648, {**SUBJECT, **TARGET, "TargetServerName": "fs1", "ProcessName": "C:\\x\\runas.exe"}))
    assert (explicit["user_name"], explicit["user_id"], explicit["logon_id"]) == ("DC1$", "S-1-5-18", "0x3e7")
    assert (explicit["destination_user_name"], explicit["destination_user_domain"], explicit["destination_host"]) == (
        "alice", "CORP", "fs1",
    )  # fmt: skip
    _, locked = event_of(winlog(4740, {**SUBJECT, "TargetUserName": "alice", "TargetDomainName": "WS1", "TargetSid": "S-1-5-21-9"}))
    assert (locked["destination_user_name"], locked["destination_user_id"], locked["source_host"]) == ("alice", "S-1-5-21-9", "WS1")
    assert locked["destination_user_domain"] is None


def test_kerberos_and_ntlm_are_named() -> None:
    _, ticket = event_of(winlog(4769, {"TargetUserName": "a@R", "ServiceName": "FS1$", "TicketEncryptionType": "0x17"}))
    assert (ticket["authentication_protocol"], ticket["service_name"], ticket["user_domain"]) == ("Kerberos", "FS1$", "R")
    assert ticket["labels"] == {"TicketEncryptionType": "0x17"}
    _, ntlm = event_of(
        winlog(4776, {"PackageName": "MICROSOFT_AUTHENTICATION_PACKAGE_V1_0", "Workstation": "\\\\WS1", "Status": "0x0"})
    )
    assert (ntlm["authentication_protocol"], ntlm["source_host"], ntlm["event_outcome"]) == ("NTLM", "WS1", "success")
    _, version = event_of(winlog(4624, {**TARGET, "AuthenticationPackageName": "Negotiate", "LmPackageName": "NTLM V1"}))
    assert (version["authentication_protocol"], version["labels"]["LmPackageName"]) == ("NTLM", "NTLM V1")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("-", None), ("", None), ("::1", "::1"), ("::ffff:10.1.2.3", "10.1.2.3"), ("::FFFF:10.1.2.3", "10.1.2.3"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"), ("fe80::1%12", "fe80::1"), ("LOCAL", None), ("10.1.2.3", "10.1.2.3"),
    ],
)  # fmt: skip
def test_the_address_in_every_form_that_windows_writes(address: str, expected: str | None) -> None:
    _, event = event_of(winlog(4625, {**TARGET, "IpAddress": address, "IpPort": "-"}))
    assert (event["source_ip"], event["source_port"]) == (expected, None)


def test_what_winlogbeats_own_module_moved_is_read_where_it_moved_it() -> None:
    document = winlog(
        4624, {**TARGET, "LogonType": "3"}, source={"ip": "192.0.2.9", "port": 51000, "domain": "WS9"},
        user={"name": "alice", "domain": "CORP", "id": "S-1-5-21-1"},
    )  # fmt: skip
    _, event = event_of(document)
    assert (event["source_ip"], event["source_port"], event["source_host"]) == ("192.0.2.9", 51000, "WS9")


def test_the_same_number_of_another_provider_or_channel_is_no_logon() -> None:
    document = winlog(4625, {"p": "1"})
    document["winlog"] |= {"provider_name": "Some-Application", "channel": "Application"}
    dataset, event = event_of(document)
    assert (dataset, event["event_code"]) == ("sensor", "4625")


def test_other_windows_events_keep_code_user_host_and_document() -> None:
    dataset, event = event_of(winlog(4688, {**SUBJECT, "NewProcessName": "C:\\x.exe"}))
    assert dataset == "sensor"
    assert (event["event_code"], event["user_name"], event["user_domain"], event["user_id"]) == ("4688", "DC1$", "CORP", "S-1-5-18")
    assert (event["host_name"], event["event_outcome"], event["event_module"]) == ("dc1.corp.example", "success", "windows")
    assert json.loads(event["document"])["winlog"]["event_data"]["NewProcessName"] == "C:\\x.exe"


@pytest.mark.parametrize(
    ("event_id", "expected"),
    [
        (1102, ("audit-log-cleared", ["iam"], ["admin", "change"])),
        (4688, ("created-process", ["process"], ["start"])),
        (4720, ("added-user-account", ["iam"], ["user", "creation"])),
        (4732, ("added-member-to-group", ["iam"], ["group", "change"])),
        (4756, ("added-member-to-group", ["iam"], ["group", "change"])),
        (4758, ("deleted-group-account", ["iam"], ["group", "deletion"])),
        (4761, ("added-member-to-distribution-group", ["iam"], ["group", "change"])),
        (4698, ("scheduled-task-created", ["iam", "configuration"], ["admin", "creation"])),
        (5156, ("Filtering Platform Connection", None, None)),
    ],
)
def test_audits_say_what_was_done_without_the_shippers_module(event_id: int, expected: tuple[Any, ...]) -> None:
    """Winlogbeat alone gives Windows' own name of the task for an action, and no category."""
    document = winlog(event_id, {**SUBJECT, "TargetUserName": "alice", "NewProcessName": "C:\\Windows\\x.exe"})
    document["event"]["action"] = "Filtering Platform Connection"
    dataset, event = event_of(document)
    assert dataset == "sensor"
    assert (event["event_action"], event["event_category"] or None, event["event_type"] or None) == expected
    assert (event["user_name"], event["process_name"]) == ("DC1$", "x.exe")


def test_the_account_that_wrote_an_event_stands_in_where_its_data_names_nobody() -> None:
    document = winlog(4104, {"ScriptBlockText": "whoami"})
    document["winlog"] |= {
        "provider_name": "Microsoft-Windows-PowerShell", "channel": "Microsoft-Windows-PowerShell/Operational",
        "user": {"identifier": "S-1-5-21-7", "name": "alice", "domain": "CORP", "type": "User"},
    }  # fmt: skip
    event = event_of(document)[1]
    assert (event["user_name"], event["user_domain"], event["user_id"]) == ("alice", "CORP", "S-1-5-21-7")
    document["winlog"]["user"] = ["odd"]
    assert event_of(document)[1]["user_name"] is None


def test_a_record_of_sysmon_has_its_connection_and_its_user() -> None:
    data = {"User": "CORP\\alice", "Image": "C:\\x.exe", "SourceIp": "192.0.2.7", "DestinationIp": "192.0.2.8", "Protocol": "udp"}
    document = winlog(3, data)
    document["winlog"] |= {"provider_name": "Microsoft-Windows-Sysmon", "channel": "Microsoft-Windows-Sysmon/Operational"}
    dataset, event = event_of(document)
    assert dataset == "sensor"
    assert (event["source_ip"], event["destination_ip"], event["network_transport"]) == ("192.0.2.7", "192.0.2.8", "udp")
    assert (event["process_name"], event["user_name"], event["user_domain"]) == ("x.exe", "alice", "CORP")


def test_the_account_in_a_flat_record_is_the_user() -> None:
    document = {
        "EventTime": "2024-03-01 12:00:00", "Hostname": "ws1", "EventID": 2500, "SourceName": "Some-Service",
        "Channel": "Application", "AccountName": "SYSTEM", "Domain": "NT AUTHORITY", "UserID": "S-1-5-18",
    }  # fmt: skip
    event = event_of(document)[1]
    assert (event["user_name"], event["user_domain"], event["user_id"]) == ("SYSTEM", "NT AUTHORITY", "S-1-5-18")


def test_another_providers_number_is_no_audit() -> None:
    document = winlog(4720, {"p": "1"})
    document["winlog"] |= {"provider_name": "Some-Application", "channel": "Application"}
    assert not event_of(document)[1]["event_category"]


def xml(named: str, text: str) -> dict[str, Any]:
    return {
        "Event": {
            "System": {
                "Provider": {named: AUDIT}, "EventID": {text: "4625"}, "Keywords": "0x8010000000000000", "Channel": "Security",
                "Computer": "ws1", "EventRecordID": "12",
                "TimeCreated": {named.replace("Name", "SystemTime"): "2024-03-01T12:00:00.1234567Z"},
            },
            "EventData": {"Data": [{named: "TargetUserName", text: "bob"}, {named: "IpAddress", text: "192.0.2.7"}]},
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        {
            "EventTime": "2024-03-01 12:00:00.123456", "Hostname": "ws1", "Keywords": -9218868437227405312,
            "EventType": "AUDIT_FAILURE",
            "EventID": 4625, "SourceName": AUDIT, "RecordNumber": 12, "Channel": "Security", "TargetUserName": "bob",
            "IpAddress": "192.0.2.7", "SourceModuleType": "im_msvistalog",
        },
        {
            "@timestamp": "2024-03-01T12:00:00.123456Z", "winlog.event_id": "4625", "winlog.channel": "Security",
            "winlog.provider_name": AUDIT, "winlog.computer_name": "ws1", "winlog.record_id": "12",
            "winlog.keywords": ["Audit Failure"],
            "winlog.event_data.TargetUserName": "bob", "winlog.event_data.IpAddress": "192.0.2.7",
        },
        {
            "@timestamp": "2024-03-01T12:00:00.123456Z", "event_id": 4625, "log_name": "Security", "source_name": AUDIT,
            "computer_name": "ws1", "record_number": "12", "keywords": ["Audit Failure"],
            "event_data": {"TargetUserName": "bob", "IpAddress": "192.0.2.7"},
        },
        xml("@Name", "#text"),
        xml("Name", "text"),
        {
            "Event": {
                "System": {
                    "Provider": {"#attributes": {"Name": AUDIT}}, "EventID": 4625, "Channel": "Security", "Computer": "ws1",
                    "EventRecordID": 12, "Keywords": "0x8010000000000000",
                    "TimeCreated": {"#attributes": {"SystemTime": "2024-03-01T12:00:00.123456Z"}},
                },
                "EventData": {"TargetUserName": "bob", "IpAddress": "192.0.2.7"},
            }
        },
    ],
    ids=["NXLog", "dotted keys", "Winlogbeat 6", "XML @", "XML", "XML attributes"],
)  # fmt: skip
def test_every_shape_of_the_same_event_reads_the_same(document: dict[str, Any]) -> None:
    dataset, event = event_of(document)
    assert dataset == "authentication"
    assert {
        "event_code": "4625", "event_outcome": "failure", "user_name": "bob", "source_ip": "192.0.2.7", "host_name": "ws1",
        "winlog_record_id": "12", "winlog_channel": "Security", "winlog_provider": AUDIT, "timestamp": 1_709_294_400_123_456,
    }.items() <= event.items()  # fmt: skip


def test_a_time_without_a_zone_is_the_computers() -> None:
    document = {"EventID": 4634, "Channel": "Security", "EventTime": "2024-03-01 14:00:00", "TargetUserName": "bob"}
    _, event = event_of(document, time_zone="Europe/Helsinki")
    assert event["timestamp"] == 1_709_294_400_000_000


@pytest.mark.parametrize(
    "document",
    [
        {"EventID": 5, "colour": "red"}, {"winlog": "text"}, {"winlog": {"event_id": "many"}}, {"Event": {"System": []}},
        {"event_id": "abc", "log_name": 3},
    ],
)  # fmt: skip
def test_what_only_looks_like_it_stays_a_plain_document(document: dict[str, Any]) -> None:
    dataset, event = event_of(document)
    assert (dataset, event["event_module"], event["event_code"]) == ("sensor", "beats", None)


VALUES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=6) | st.lists(st.text(max_size=3), max_size=2)
NAMES = st.sampled_from(
    ["TargetUserName", "IpAddress", "IpPort", "LogonType", "Status", "SubStatus", "ProcessName", "WorkstationName", "LmPackageName"]
)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([4624, 4625, 4648, 4740, 4769, 4776, 1]),
    st.dictionaries(NAMES, VALUES, max_size=6),
    st.dictionaries(st.sampled_from(["channel", "provider_name", "computer_name", "record_id", "keywords", "event_data"]), VALUES),
)
def test_any_values_give_an_event_that_fits_its_schema(event_id: int, data: dict[str, Any], changes: dict[str, Any]) -> None:
    document = winlog(event_id, data)
    document["winlog"] |= changes
    outcome = events_of([json.dumps(document).encode()])
    assert sum(map(len, outcome.values())) == 1
