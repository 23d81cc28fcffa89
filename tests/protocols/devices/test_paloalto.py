import pytest

from weir.protocols.devices.paloalto import read_panos


def test_columns_by_the_type() -> None:
    line = '1,2024/05/01 10:00:00,0001,TRAFFIC,end,1,2024/05/01 09:59:59,192.0.2.1,192.0.2.2,0.0.0.0,0.0.0.0,"a, ""b""",AD\\u'
    event = read_panos(line)
    assert event is not None
    assert (event.type, event.subtype) == ("TRAFFIC", "end")
    assert event.columns == {
        "receive_time": "2024/05/01 10:00:00", "serial": "0001", "type": "TRAFFIC", "subtype": "end",
        "time_generated": "2024/05/01 09:59:59", "src": "192.0.2.1", "dst": "192.0.2.2", "natsrc": "0.0.0.0",
         "natdst": "0.0.0.0",
        "rule": 'a, "b"', "srcuser": "AD\\u",
    }  # fmt: skip


@pytest.mark.parametrize("details", ["", ",before,after"])
def test_a_change_with_and_without_its_details(details: str) -> None:
    line = f"1,2024/05/01 10:00:00,1,CONFIG,0,1,2024/05/01 10:00:00,192.0.2.1,,commit,admin,Web,Submitted,/path{details},77,0x8000"
    event = read_panos(line)
    assert event is not None
    assert (event.columns["seqno"], event.columns["actionflags"]) == ("77", "0x8000")
    assert event.columns.get("after_change_detail") == ("after" if details else None)


def test_columns_that_no_list_names_are_numbered() -> None:
    event = read_panos("1,2024/05/01 10:00:00,1,CORRELATION,,,2024/05/01 10:00:00,x")
    assert event is not None
    assert event.columns["column_8"] == "x"


@pytest.mark.parametrize("text", ["", "1,2024/05/01,1,TRAFFIC", "a,b,c", "1,2024/05/01 10:00:00,1,traffic,"])
def test_others_are_none(text: str) -> None:
    assert read_panos(text) is None
