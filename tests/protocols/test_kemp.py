import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols import cef
from weir.protocols.kemp import LAYOUTS, KempEvent, additional_extensions, decode

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[2] / ".." / "shared" / "corpus"))


def event(class_id: int | str, extension: str, name: str = "Name") -> cef.CefEvent:
    return cef.parse(f"CEF:0|Kemp|LM|1.0|{class_id}|{name}|0|{extension}")


def decoded(class_id: int | str, extension: str) -> KempEvent:
    result = decode(event(class_id, extension))
    assert result is not None
    return result


class TestDecode:
    def test_values_hold_spaces(self) -> None:
        assert decoded(2, "vs=10.0.0.1:443 event=SSL accept srcip=192.0.2.7 srcport=6045 msg=SSL accept") == KempEvent(
            2,
            "Name",
            "SSL accept",
            virtual_service_ip="10.0.0.1",
            virtual_service_port=443,
            source_ip="192.0.2.7",
            source_port=6045,
            message="SSL accept",
        )

    def test_semicolons_separate_too_and_a_user_agent_may_hold_them(self) -> None:
        agent = "Mozilla/5.0 (X11; Linux; rv:1)"
        pairs = ["vs=10.0.0.1:443", "event=Request", "srcip=192.0.2.7", "srcport=1", "method=GET", "url=https://x/?q=1"]
        pairs += ["user=AD\\nora", f"useragent={agent}"]
        by_space, by_semicolon = decoded(11, " ".join(pairs)), decoded(11, ";".join(pairs) + ";")
        assert by_space == by_semicolon
        assert (by_space.user, by_space.user_agent, by_space.url) == ("AD\\nora", agent, "https://x/?q=1")

    @pytest.mark.parametrize(
        ("vs", "address", "port", "index"),
        [
            ("10.0.0.1:80", "10.0.0.1", 80, None),
            ("[2001:DB8::1]:443", "2001:db8::1", 443, None),
            ("[2001:db8::1]", "2001:db8::1", None, None),
            ("2001:db8::1", "2001:db8::1", None, None),
            ("10.0.0.1", "10.0.0.1", None, None),
            ("65", None, None, 65),
            ("10.0.0.1:99999", "10.0.0.1", None, None),
            ("nonsense:80", None, 80, None),
            ("", None, None, None),
        ],
    )
    def test_virtual_service(self, vs: str, address: str | None, port: int | None, index: int | None) -> None:
        got = decoded(0, f"vs={vs} event=Accept")
        assert (got.virtual_service_ip, got.virtual_service_port, got.virtual_service_index) == (address, port, index)

    def test_class_20_names_the_virtual_service_by_index(self) -> None:
        got = decoded(20, "vs=58 user=corp\\ domain=corp.example server= protocol=RADIUS and LDAP Unencrypted result=1:Timeout")
        assert got == KempEvent(
            20,
            "Name",
            "Name",
            virtual_service_index=58,
            user="corp\\",
            domain="corp.example",
            protocol="RADIUS and LDAP Unencrypted",
            result="1:Timeout",
        )

    def test_an_unknown_key_is_told_by_its_position(self) -> None:
        base = "vs=10.0.0.1:443 event=E srcip=192.0.2.7 srcport=1"
        assert decoded(3, f"{base} remote=192.0.2.9").awaiting_address == "192.0.2.9"
        assert decoded(13, f"{base} code=7").dt_code == "7"
        assert decoded(15, "vs=10.0.0.1:443 event=E path=/x").resource == "/x"
        assert decoded(2, f"{base} a=1 b=2").message == "1"

    def test_a_known_key_is_told_by_its_name_in_any_class(self) -> None:
        """Later firmware sends class 14 as a request, with all that belongs to one."""
        got = decoded(14, "vs=10.0.0.1:443 event=Request srcip=192.0.2.7 srcport=9 method=GET url=https://x/ useragent=UA/1 (a b)")
        assert (got.source_ip, got.source_port, got.method, got.url, got.user_agent) == (
            "192.0.2.7",
            9,
            "GET",
            "https://x/",
            "UA/1 (a b)",
        )
        assert decoded("x", "vs=10.0.0.1:443 srcip=192.0.2.7").source_ip == "192.0.2.7"

    def test_a_pair_in_the_user_agent_does_not_replace_the_source(self) -> None:
        got = decoded(11, "vs=10.0.0.1:443 event=Request srcip=192.0.2.7 srcport=9 method=GET url=/ useragent=x srcip=10.9.9.9")
        assert got.source_ip == "192.0.2.7"

    def test_values_that_cannot_be_leave_the_field_empty(self) -> None:
        got = decoded(0, "vs=10.0.0.1:80 event=Accept srcip=evil srcport=70000")
        assert (got.source_ip, got.source_port) == (None, None)

    @pytest.mark.parametrize(("vendor", "product"), [("Fortinet", "LM"), ("Kemp", "Other")])
    def test_other_devices_are_not_kemps(self, vendor: str, product: str) -> None:
        assert decode(cef.parse(f"CEF:0|{vendor}|{product}|1|0|Accept|0|vs=10.0.0.1:80")) is None


class TestLayouts:
    def test_every_class_is_there_and_every_field_exists(self) -> None:
        assert set(LAYOUTS) == {*range(18), 20, 100}
        fields = {*KempEvent._fields, "virtual_service"}
        assert all(set(layout) <= fields and len(set(layout)) == len(layout) for layout in LAYOUTS.values())

    @pytest.mark.parametrize("class_id", sorted(LAYOUTS))
    def test_every_position_of_every_class_is_decoded(self, class_id: int) -> None:
        typed = {"virtual_service": "10.0.0.1:80", "source_ip": "192.0.2.1", "destination_ip": "192.0.2.2"}
        typed |= {"source_port": "11", "destination_port": "12"}
        values = [typed.get(field, f"v {field}") for field in LAYOUTS[class_id]]
        got = decoded(class_id, " ".join(f"k{position}={value}" for position, value in enumerate(values)))
        for field, value in zip(LAYOUTS[class_id], values, strict=True):
            if field == "virtual_service":
                assert (got.virtual_service_ip, got.virtual_service_port) == ("10.0.0.1", 80)
            else:
                assert str(getattr(got, field)) == value

    # What the vendor's saved query reads with split(AdditionalExtensions, ';'), by field, classes and position.
    @pytest.mark.parametrize(
        ("field", "classes", "position"),
        [
            ("virtual_service", set(range(18)), 0),
            ("event", set(range(18)), 1),
            ("source_ip", set(range(18)) - {6, 14, 15}, 2),
            ("source_ip", {6}, 3),
            ("source_port", {1, 2, 3, 4, 5, 11, 12, 13, 16, 17}, 3),
            ("destination_ip", {4, 5}, 4),
            ("destination_port", {4, 5}, 5),
            ("awaiting_address", {3}, 4),
            ("method", {11, 12}, 4),
            ("url", {11, 12}, 5),
            ("user", {6}, 2),
            ("user", {7, 8, 9, 10}, 3),
            ("user", {11, 12}, 6),
            ("user_agent", {11, 12}, 7),
            ("resource", {15}, 2),
            ("resource", {16, 17}, 4),
            ("dt_code", {13}, 4),
        ],
    )
    def test_positions_are_those_of_the_vendors_query(self, field: str, classes: set[int], position: int) -> None:
        for class_id in classes:
            assert LAYOUTS[class_id][position] == field


class TestAdditionalExtensions:
    def test_positions_hold_for_a_split_by_semicolon(self) -> None:
        text = additional_extensions(
            event(5, "vs=10.0.0.1:80 event=Connection failed srcip=192.0.2.7 srcport=1 dstip=10.1.1.1 dstport=82")
        )
        assert [pair.split("=")[1] for pair in text.split(";")] == [
            "10.0.0.1:80",
            "Connection failed",
            "192.0.2.7",
            "1",
            "10.1.1.1",
            "82",
        ]
        assert additional_extensions(event(5, text)) == text

    def test_repeated_and_empty_pairs_are_kept(self) -> None:
        assert additional_extensions(event(20, "vs=65 server= vs=66")) == "vs=65;server=;vs=66"


@settings(max_examples=150)
@given(st.sampled_from(["0", "11", "20", "x", "99999999"]), st.text(st.sampled_from("vs=;: .[]0129ab\\"), max_size=60))
def test_any_extension_is_decoded(class_id: str, extension: str) -> None:
    additional_extensions(event(class_id, extension))
    assert decoded(class_id, extension).name == "Name"


@pytest.mark.parametrize("extension", ["vs=1;" + ";" * 60000, "vs=1; a=" + "; " * 30000, "a" * 65000, "vs=1;" + " " * 65000])
def test_hostile_input_costs_one_pass(extension: str) -> None:
    began = time.perf_counter()
    decoded(0, extension)
    assert time.perf_counter() - began < 1


def test_the_vendors_samples() -> None:
    path = CORPUS / "cef" / "kemp" / "samples.cef"
    if not path.exists():
        pytest.skip("corpus file samples.cef is not here: set WEIR_CORPUS to the folder that has it")
    for line in path.read_text().splitlines():
        parsed = cef.parse(line)
        got = decode(parsed)
        assert got is not None
        assert got.event == parsed.name
        assert None not in {got.virtual_service_ip, got.virtual_service_port, got.source_ip, got.source_port}
        assert additional_extensions(parsed).count(";") == parsed.extension_text.count("=") - 1
