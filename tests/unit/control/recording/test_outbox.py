# SPDX-License-Identifier: Apache-2.0
"""What waits for the ledger: in order, never more than may wait, and nothing is lost without being counted."""

from datetime import UTC, datetime

from embellie.control.recording.outbox import Outbox
from embellie.ledger import Draft, Kind

T0 = datetime(2026, 7, 1, tzinfo=UTC)


def drafts(*numbers: int) -> list[Draft]:
    return [Draft(kind=Kind.GAP, at=T0, body={"lost": number, "why": ""}) for number in numbers]


def test_what_could_not_be_written_comes_first_again_in_its_order() -> None:
    box = Outbox(10)
    box.put(drafts(1, 2, 3))
    first = box.take(2)
    box.put(drafts(4))
    box.put_back(first)
    assert box.take(10) == drafts(1, 2, 3, 4)
    assert box.take(10) == []


def test_where_too_much_waits_the_oldest_are_lost_and_counted_until_the_ledger_says_so_and_ever_after() -> None:
    box = Outbox(2)
    box.put(drafts(1, 2, 3, 4))
    box.lose(1)
    assert (box.lost, box.lost_ever) == (3, 3)
    box.said(3)
    box.put(drafts(5))
    assert (box.lost, box.lost_ever) == (1, 4)
    assert box.take(10) == drafts(4, 5)
