"""The package's own tests: no Kafka, no Weir service, only its functions."""

import pytest
from weir_door_controller import label_colours, reader

from weir.processors.fields import Context

# A clock two hours ahead of UTC.
CONTEXT = Context(received_us=1_709_294_400_000_000, to_utc=lambda local: local - 7_200_000_000)


def test_a_line_becomes_an_authentication_with_its_time_in_utc() -> None:
    dataset, fields = reader.line('DOOR 2024-03-01 14:00:00 north-gate badge=R0451 holder="Petra Example" granted', CONTEXT)
    assert dataset == "authentication"
    assert fields["timestamp"] == 1_709_294_400_000_000
    assert (fields["user_id"], fields["user_name"], fields["event_outcome"]) == ("R0451", "Petra Example", "success")


def test_other_lines_are_left_to_others_and_broken_ones_are_refused() -> None:
    assert reader.line("sshd: hello", CONTEXT) is None
    with pytest.raises(ValueError, match="DOOR"):
        reader.line("DOOR is stuck", CONTEXT)


def test_the_colour_of_the_badge_becomes_a_label() -> None:
    records = [{"event_module": "door_controller", "user_id": "B0007"}, {"event_module": "winlog", "user_id": "B"}]
    label_colours(records)
    assert records[0]["labels"] == {"badge_colour": "blue"}
    assert "labels" not in records[1]
