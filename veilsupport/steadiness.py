"""Whether the clock can be believed, before something is erased because it is old. Pure: knows no clock.

A clock that is wrong by years would make everything old at once: after an empty battery, in a virtual machine that was
laid to sleep, by a slip of somebody's hand. So what goes by age waits for a day whenever the clock was set far, or
says at the start that nothing ran here for long; by then it is put right again, or was right. What is lost by waiting
is a day; what is lost by believing a wrong clock is everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

STEP_SECONDS: Final = 3600.0  # time servers put right less than that; and no age is counted in less than days
LONG_SECONDS: Final = 7 * 86_400.0  # a desk that was off for less is believed at once
DOUBT_SECONDS: Final = 86_400.0
DOUBTFUL: Final = (
    "This machine's clock has been set far, or it was off for long: for a day nothing is erased by its age."
)


@dataclass(frozen=True, slots=True)
class Marks:
    """What is kept of the clock from one start to the next; Unix seconds, 0.0: never."""

    believed_at: float = 0.0  # when the clock was believed last
    doubted_since: float = 0.0  # by the clock that is doubted

    def to_text(self) -> str:
        return f"{self.believed_at:.0f} {self.doubted_since:.0f}\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """None at all when it is not ours."""
        words = text.split()
        return cls(*map(float, words)) if len(words) == 2 and all(map(str.isdecimal, words)) else cls()


class Steadiness:
    """`now` is what the clock says, in Unix seconds; `uptime` grows evenly, whatever that does (CLOCK_BOOTTIME)."""

    def __init__(self, marks: Marks, *, now: float, uptime: float) -> None:
        self._now = now
        self._offset = now - uptime
        self._marks = marks
        off = now - marks.believed_at if marks.believed_at else 0.0
        is_early, is_late = off < -STEP_SECONDS, off > LONG_SECONDS
        # How far the clock is from where it should be, and how far it may be. How long we were off nobody knows.
        self._astray = off if is_early or is_late else 0.0
        self._slack = LONG_SECONDS if is_early or is_late else STEP_SECONDS
        if not is_late:  # an early clock makes nothing old
            self._believe()
        elif not 0 <= now - marks.doubted_since <= LONG_SECONDS:
            self._marks = Marks(marks.believed_at, now)

    @property
    def marks(self) -> Marks:
        """To be kept for the next start."""
        return self._marks

    @property
    def is_believed(self) -> bool:
        return not self._marks.doubted_since

    def look(self, *, now: float, uptime: float) -> float:
        """To be called now and then. By how many seconds the clock was set since the last look; 0.0: it ran on."""
        self._now = now
        step = now - uptime - self._offset
        self._offset += step
        if abs(step) < STEP_SECONDS:
            step = 0.0
        self._astray += step
        is_back = abs(self._astray) < self._slack
        if step and not is_back:
            self._marks = Marks(self._marks.believed_at, now)
        elif self.is_believed or is_back or now - self._marks.doubted_since >= DOUBT_SECONDS:
            self._believe()
        return step

    def _believe(self) -> None:
        is_early = self._now < self._marks.believed_at - STEP_SECONDS
        if not self.is_believed or not is_early:
            self._marks = Marks(self._now)
        if not is_early:
            self._astray, self._slack = 0.0, STEP_SECONDS
