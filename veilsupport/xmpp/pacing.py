"""How many stanzas may be under way at once: as many as the server takes in a moment.

A public server throttles to about ten messages a second. Whatever is given to it beyond that waits in its socket, where
nothing can overtake: a new conversation's first line would wait behind another's flood, and the sign of life behind
both. So the window grows while answers come about as fast as the fastest so far (which is the way through Tor), by one
for each round, and shrinks when they take longer by more than a moment: a server lets a burst pass at full speed before
it throttles, and what was learned from that must not fill its socket. Pure: knows no clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

SMALLEST: Final = 4.0
LARGEST: Final = 50.0  # through Tor some 50 a second: more than any public server takes
_FIRST: Final = 20.0
_QUEUED_SECONDS: Final = 1.5  # what may wait in the server's socket
_SHRINK: Final = 0.7


class Turns:
    """So many at once, and then so many a minute: for what a server or its admins cannot take in any number."""

    def __init__(self, at_once: int, per_minute: float) -> None:
        self._most = float(at_once)
        self._left = float(at_once)
        self._per_second = per_minute / 60
        self._counted_at: float | None = None

    def take(self, *, now: float) -> bool:
        """Whether it is one's turn; a clock that steps back gives nothing."""
        passed = max(0.0, now - self._counted_at) if self._counted_at is not None else 0.0
        self._left = min(self._most, self._left + passed * self._per_second)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Window:
    """The stanzas under way, by id. Instants are the caller's seconds and only ever grow."""

    def __init__(self) -> None:
        self._sent_at: dict[str, float] = {}
        self._size = _FIRST
        self._fastest = float("inf")
        self._shrunk_at = 0.0

    def __contains__(self, stanza_id: str) -> bool:
        return stanza_id in self._sent_at

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._sent_at))

    def room_beside(self, *, is_busy: bool) -> int:
        """How many more may be sent now. `is_busy`: questions are being asked whose answers somebody waits for."""
        return max(0, int(SMALLEST if is_busy else self._size) - len(self._sent_at))

    def sent(self, stanza_id: str, *, at: float) -> None:
        self._sent_at[stanza_id] = at

    def arrived(self, stanza_id: str, *, at: float) -> None:
        """The server's answer to that stanza; unknown ones say nothing."""
        sent_at = self._sent_at.pop(stanza_id, None)
        if sent_at is None:
            return
        took = at - sent_at
        self._fastest = min(self._fastest, took)
        if took - self._fastest <= _QUEUED_SECONDS:
            if 2 * len(self._sent_at) >= self._size:  # else it says nothing of what more of them would do
                self._size = min(LARGEST, self._size + 1 / self._size)
        elif sent_at >= self._shrunk_at:  # those sent before the last step down say nothing new
            if self._size <= SMALLEST:  # so few cannot wait for each other: the way itself has become longer
                self._fastest = took
            self._size = max(SMALLEST, self._size * _SHRINK)
            self._shrunk_at = at

    def drop(self, stanza_id: str) -> None:
        """It is not under way any more, and that says nothing about the server."""
        self._sent_at.pop(stanza_id, None)

    def clear(self) -> None:
        """A new session: another way, and perhaps another server process."""
        self._sent_at.clear()
        self._fastest = float("inf")

    def older_than(self, at: float) -> list[str]:
        """What was sent before that instant and is still under way."""
        return [stanza_id for stanza_id, sent_at in self._sent_at.items() if sent_at < at]
