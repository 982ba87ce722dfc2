"""Whether somebody is there to answer: the one of three sentences that every page shows; and one about copies, if any.

    open    the admins can be reached, and somebody is there
    away    nobody is there, or it is outside the hours; whether the line is up makes no difference then
    down    somebody is there, but the line to them is down

Knows neither HTTP nor the desk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from veilsupport.model import Attendance


class DeskIs(StrEnum):
    """Which sentence shows; also the name of its class in the stylesheet, and of the badge's picture."""

    OPEN = "open"
    AWAY = "away"
    DOWN = "down"


_WORDS: Final = {
    DeskIs.OPEN: "The line to the people who answer is open.",
    DeskIs.DOWN: "The line to the people who answer is down at this moment. What you write is kept and goes out as soon"
    " as it is back.",
}


@dataclass(frozen=True, slots=True)
class Attended:
    """What a page says of it. A live page carries all three sentences, because one of the others may show later."""

    state: DeskIs
    away: str  # empty while nobody has to be told
    archived: bool = False  # whether what is said is kept in a copy that those who answer can open later

    @property
    def sentences(self) -> Mapping[DeskIs, str]:
        return {DeskIs.OPEN: _WORDS[DeskIs.OPEN], DeskIs.AWAY: self.away, DeskIs.DOWN: _WORDS[DeskIs.DOWN]}

    @property
    def sentence(self) -> str:
        return self.sentences[self.state]


def attended(attendance: Attendance) -> Attended:
    if not attendance.staffed:
        return Attended(DeskIs.AWAY, attendance.away, attendance.archived)
    state = DeskIs.OPEN if attendance.line_is_up else DeskIs.DOWN
    return Attended(state, "", attendance.archived)
