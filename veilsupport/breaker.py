"""When there is too much of everything: then new conversations have to pass a puzzle, and those that exist go first.

It watches three things: how late the loop is, how much waits to be delivered, and how many want to start. One of
them too high trips it; it relaxes by itself after all three have been low for a while. Pure: knows no clock (`now` is
an argument), and neither what a puzzle is nor who is told.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

# Each: (trips at, low again under).
LAG_SECONDS: Final = (0.5, 0.1)  # averaged over ten seconds: every click then waits that long
BACKLOG: Final = (5_000, 2_500)  # what a server that takes ten a second works off in eight minutes
STARTS: Final = (150, 60)  # in the latest minute; up to the first the table of limits lets everybody in anyway
CALM_SECONDS: Final = 90.0  # that long all has to be low; a flood that pauses for a minute is not over

# What waits to be delivered is sealed and on disk, 17 KB for the longest text: so 340 MB at most. New conversations
# are refused at half of it, that those which exist can go on.
OUTBOX_MAX: Final = 20_000
OUTBOX_STARTS_MAX: Final = 10_000

_LAG_CLAMP_SECONDS: Final = 2.0  # one look that comes an hour late is a machine that slept, not too much work
_LAG_WEIGHT: Final = 0.1
_MINUTE: Final = 60.0


class Cause(StrEnum):
    """Why it has tripped. The values are for people."""

    STARTS = "too many want to start a conversation"
    BACKLOG = "too much waits to be delivered"
    LAG = "the machine does not keep up"


class Breaker:
    """`look` once a second; between, tell it what happens."""

    def __init__(self) -> None:
        self.cause: Cause | None = None
        self.backlog = 0
        self.trips = 0
        self._lag = 0.0
        self._starts = 0.0  # an exponentially fading count: at an even pace, how many there are in a minute
        self._starts_at = -math.inf
        self._calm_since = math.inf

    @property
    def is_tripped(self) -> bool:
        return self.cause is not None

    def knocked(self, *, now: float) -> None:
        """Somebody wants to start a conversation."""
        # No more than twice what trips it: else a great flood would be remembered for longer than a small one.
        self._starts = min(2.0 * STARTS[0], self.starts(now=now) + 1)
        self._starts_at = now

    def starts(self, *, now: float) -> float:
        """How many wanted to in the latest minute, about."""
        return self._starts * math.exp(-max(0.0, now - self._starts_at) / _MINUTE)

    def lagged(self, seconds: float) -> None:
        """So much later than it wished to did the loop come to a task."""
        self._lag += _LAG_WEIGHT * (min(_LAG_CLAMP_SECONDS, max(0.0, seconds)) - self._lag)

    def waiting(self, backlog: int) -> None:
        """So much waits to be delivered."""
        self.backlog = backlog

    def look(self, *, now: float) -> None:
        """Trip, stay, or relax."""
        pressures = self._pressures(now)
        tripped_by = next((cause for cause, value, (high, _) in pressures if value >= high), None)
        is_calm = all(value < low for _, value, (_, low) in pressures)
        if tripped_by is not None and self.cause is None:
            self.cause = tripped_by
            self.trips += 1
        # A clock that is set back does not make it wait for the old time.
        self._starts_at = min(self._starts_at, now)
        self._calm_since = min(self._calm_since, now) if is_calm else math.inf
        if self.cause is not None and now - self._calm_since >= CALM_SECONDS:
            self.cause = None

    def _pressures(self, now: float) -> list[tuple[Cause, float, tuple[float, float]]]:
        return [
            (Cause.STARTS, self.starts(now=now), STARTS),
            (Cause.BACKLOG, self.backlog, BACKLOG),
            (Cause.LAG, self._lag, LAG_SECONDS),
        ]
