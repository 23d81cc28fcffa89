import contextlib
import time
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.leef import LeefError, LeefEvent, find, format_leef, parse

HEADER = "LEEF:2.0|Vendor|Product|1.0|41|"


class TestParse:
    def test_version_1_has_tabs(self) -> None:
        assert parse("LEEF:1.0|Microsoft|MSExchange|4.0 SP1|15345|src=192.0.2.0\tdst=192.0.2.1\tsev=5\tcat=a b") == LeefEvent(
            "1.0",
            "Microsoft",
            "MSExchange",
            "4.0 SP1",
            "15345",
            "\t",
            {"src": "192.0.2.0", "dst": "192.0.2.1", "sev": "5", "cat": "a b"},
        )

    @pytest.mark.parametrize(
        ("named", "delimiter"),
        [
            ("", "\t"), ("|", "\t"), ("^|", "^"), ("0x5E|", "^"), ("x5e|", "^"), ("x09|", "\t"), ("0x0009|", "\t"), ("\t|", "\t"),
            ("\\t|", "\t"), ("#011|", "\t"), ("xD800|", "\t"), (";|", ";"), ("0x2016|", "\u2016"),
        ],
    )  # fmt: skip
    def test_version_2_names_its_delimiter(self, named: str, delimiter: str) -> None:
        event = parse(f"{HEADER}{named}src=192.0.2.0{delimiter}msg=a, b{delimiter}sev=3")
        assert (event.delimiter, event.attributes) == (delimiter, {"src": "192.0.2.0", "msg": "a, b", "sev": "3"})

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", {}),
            ("a=\tb=x=y\tc=", {"a": "", "b": "x=y", "c": ""}),
            (" src=1\t dst=2 \r\n", {"src": "1", "dst": "2"}),
            ("a=1\tno key here\tb=2", {"a": "1\tno key here", "b": "2"}),
            ("a=1\tb=2\ta=3", {"a": "1", "b": "2"}),
            (r"path=C:\\Windows\new", {"path": r"C:\\Windows\new"}),
            # What stands between tabs is a pair; what rsyslog made of them, too.
            ("a=1#011b=2 c=3#011d=4", {"a": "1", "b": "2 c=3", "d": "4"}),
            ("a=1#011b=2\tc=3", {"a": "1#011b=2", "c": "3"}),
            # No tab at all: spaces.
            ("a=1 2 b=3", {"a": "1 2", "b": "3"}),
            # A number ends where it ends.
            ("sev=8 cn1=37 cn1Label=Host ID\ta=1", {"sev": "8", "a": "1", "cn1": "37", "cn1Label": "Host ID"}),
        ],
    )
    def test_attributes(self, text: str, expected: dict[str, str]) -> None:
        assert parse(HEADER + text).attributes == expected

    def test_a_named_delimiter_is_obeyed_so_that_no_value_starts_a_pair(self) -> None:
        event = parse(HEADER + "^|src=192.0.2.0\tdst=192.0.2.1 cat=x")
        assert event.attributes == {"src": "192.0.2.0\tdst=192.0.2.1 cat=x"}

    @pytest.mark.parametrize(("text", "fields"), [("LEEF:", 0), ("LEEF:x|a|", 0), ("LEEF:1.0|a|b", 2), ("LEEF:1.0|a|b|c|d", 4)])
    def test_a_header_without_its_five_pipes_is_refused(self, text: str, fields: int) -> None:
        with pytest.raises(LeefError, match="LEEF") as caught:
            parse(text)
        assert caught.value.fields == fields


@pytest.mark.parametrize(
    ("message", "offset"), [("LEEF:1.0|a", 0), ("qradar: LEEF: 2.0|a", 8), ("see LEEF:docs", -1), ("LEEF:1234|", -1), ("", -1)]
)
def test_find(message: str, offset: int) -> None:
    assert find(message) == offset


TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("|=^\t\n\r\0 x#01a"), max_size=30)
KEY = st.from_regex(r"[a-zA-Z0-9_]{1,12}", fullmatch=True)


class TestEncoder:
    @settings(max_examples=200)
    @given(
        header=st.lists(TEXT, min_size=4, max_size=4),
        attributes=st.dictionaries(KEY, TEXT, max_size=5),
        form=st.sampled_from([("1.0", "\t"), ("2.0", "\t"), ("2.0", "^"), ("2.0", "\u2016")]),
    )
    def test_parse_reads_back_what_was_written_and_nothing_can_be_forged(
        self, header: list[str], attributes: dict[str, str], form: tuple[Literal["1.0", "2.0"], str]
    ) -> None:
        version, delimiter = form
        vendor, product, device_version, event_id = header
        line = format_leef(
            device_vendor=vendor,
            device_product=product,
            device_version=device_version,
            event_id=event_id,
            attributes=attributes,
            version=version,
            delimiter=delimiter,
        )
        assert not {"\n", "\r", "\0"} & set(line)
        event = parse(line)
        blanks = str.maketrans(dict.fromkeys("|\n\r\t\0", " "))
        assert list(event[:6]) == [version, *(value.translate(blanks) for value in header), delimiter]
        spaces = str.maketrans(dict.fromkeys("\n\r\t\0" + delimiter, " "))
        written = {key: value.translate(spaces).replace("#011", "# 011").rstrip(" ") for key, value in attributes.items()}
        assert event.attributes == written

    def test_a_value_with_a_pair_in_it_stays_one_value(self) -> None:
        for version in ("1.0", "2.0"):
            line = format_leef(
                device_vendor="v",
                device_product="p",
                device_version="1",
                event_id="1",
                attributes={"msg": "x\tsrc=192.0.2.1 dst=192.0.2.2#011usrName=root"},
                version=version,  # type: ignore[arg-type]
            )
            assert set(parse(line).attributes) == {"msg"}

    @pytest.mark.parametrize("key", ["a b", "", "a=b", "a\tb", "a.b"])
    def test_a_key_that_would_forge_a_pair_is_refused(self, key: str) -> None:
        with pytest.raises(ValueError, match="attribute key"):
            format_leef(device_vendor="v", device_product="p", device_version="1", event_id="1", attributes={key: "x"})

    @pytest.mark.parametrize("delimiter", ["", "ab", "a", "0", "_", "=", "|", "\n", " ", "#", "\U0001f600"])
    def test_a_delimiter_that_could_be_mistaken_is_refused(self, delimiter: str) -> None:
        with pytest.raises(ValueError, match="delimiter"):
            format_leef(device_vendor="v", device_product="p", device_version="1", event_id="1", attributes={}, delimiter=delimiter)


@settings(max_examples=150)
@given(st.text(st.sampled_from("LEF:210.|=x5E^ \t#a\n"), max_size=60))
def test_any_text_is_read_or_refused(rest: str) -> None:
    for text in ("LEEF:" + rest, HEADER + rest):
        with contextlib.suppress(LeefError):
            event = parse(text)
            str(event).encode()
    find(rest)


@pytest.mark.parametrize(
    "text",
    [HEADER + "\t" * 65000, HEADER + "a=" * 32000, HEADER + "sev=1 " + " a=" * 20000, HEADER + " " * 65000, "LEEF:1.0|" * 7000],
    ids=lambda text: text[-8:],
)
def test_hostile_input_costs_one_pass(text: str) -> None:
    began = time.perf_counter()
    find(text)
    with contextlib.suppress(LeefError):
        parse(text)
    assert time.perf_counter() - began < 1
