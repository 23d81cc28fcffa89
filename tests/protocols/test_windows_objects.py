"""What the data of a Windows event says of connections, processes and files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.windows_objects import base_name, object_fields

MD5, SHA256 = "d41d8cd98f00b204e9800998ecf8427e", "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            {
                "Image": "C:\\Windows\\System32\\svchost.exe", "Protocol": "tcp", "SourceIp": "192.0.2.7", "SourcePort": "49718",
                "DestinationIp": "fe80::1%12", "DestinationPort": "443",
            },
            {
                "process_name": "svchost.exe", "source_ip": "192.0.2.7", "source_port": 49718, "destination_ip": "fe80::1",
                "destination_port": 443, "network_iana_number": 6, "network_transport": "tcp",
            },
        ),
        (
            {
                "Application": "\\device\\harddiskvolume2\\x\\test.exe", "Protocol": "17", "SourceAddress": "::ffff:192.0.2.7",
                "SourcePort": "1", "DestAddress": "198.51.100.9", "DestPort": "2",
            },
            {
                "process_name": "test.exe", "source_ip": "192.0.2.7", "source_port": 1, "destination_ip": "198.51.100.9",
                "destination_port": 2, "network_iana_number": 17, "network_transport": "udp",
            },
        ),
        (
            {"TargetFilename": "C:\\a\\b.tmp", "Hashes": f"MD5={MD5},SHA256={SHA256},IMPHASH=00"},
            {"file_path": "C:\\a\\b.tmp", "file_name": "b.tmp", "file_hash_md5": MD5, "file_hash_sha256": SHA256.lower()},
        ),
        ({"ObjectType": "File", "ObjectName": "C:\\x\\y.z"}, {"file_path": "C:\\x\\y.z", "file_name": "y.z"}),
        ({"ObjectType": "Key", "ObjectName": "\\REGISTRY\\x"}, {}),
        ({"QueryName": "a.example"}, {"dns_question_name": "a.example"}),
        ({"SourceIp": "nowhere", "SourcePort": "70000", "Protocol": "tcp", "Hashes": "MD5=zz,=,"}, {}),
    ],
    ids=["Sysmon connection", "filtering platform", "file made", "file opened", "key opened", "name asked for", "nonsense"],
)  # fmt: skip
def test_names_of_the_data_give_fields(data: dict[str, str], expected: dict[str, Any]) -> None:
    assert object_fields(data) == expected


def test_the_name_of_a_folder_is_none() -> None:
    assert (base_name("C:\\x\\"), base_name("a/b"), base_name("c")) == (None, "b", "c")


NAMES = ("SourceIp", "SourcePort", "DestAddress", "Protocol", "Image", "Hashes", "TargetFilename", "ObjectType", "QueryName")


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=80)))
@settings(max_examples=100)
def test_any_data_gives_texts_and_numbers(data: dict[str, str]) -> None:
    assert all(isinstance(value, str | int) for value in object_fields(data).values())
