"""Which windows of which session have an open live view, and which had to give way.

A browser opens six connections to one host and no more (facts/nojs.md, 6), and a live view holds one for hours.
So a session has few of them: a newer one ends the oldest. Each window has a random name of its own that it carries
over its reconnections, so that the one that gave way is told so when it comes back, and does not push the
newer one out in turn. Knows neither HTTP nor the desk; bounded.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

PER_SESSION: Final = 2
PER_CIRCUIT: Final = 16  # people behind one circuit are few; tor lets it have 32 connections in all
OPEN_MAX: Final = 5000  # of all sessions: 22 KiB each (facts/speed.md), 110 MB
_REMEMBERED: Final = 4096


class Window:
    """One open live view; `over` when it has to end, of which `on_over` is told."""

    def __init__(self, session: bytes, name: str, circuit: str | None) -> None:
        self.session = session
        self.circuit = circuit
        self.name = name
        self.over = False
        self.on_over: Callable[[], None] = lambda: None

    def end(self) -> None:
        self.over = True
        self.on_over()


class Windows:
    """All open live views of this process."""

    def __init__(self) -> None:
        self._open: dict[bytes, list[Window]] = {}
        self._gave_way: OrderedDict[tuple[bytes, str], None] = OrderedDict()
        self._closing = False
        self._by_circuit: Counter[str] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def are_full(self, session: bytes, circuit: str | None) -> bool:
        """Whether there is no place for one more; a session that has one already takes its own."""
        if session in self._open:
            return False
        return len(self) >= OPEN_MAX or (circuit is not None and self._by_circuit[circuit] >= PER_CIRCUIT)

    def open(self, session: bytes, name: str, circuit: str | None = None) -> Window:
        """Reserve a place, ending the oldest when there are too many. The same window's earlier view ends too."""
        window = Window(session, name, circuit)
        if self._closing:
            window.end()
        siblings = self._open.setdefault(session, [])
        for earlier in [each for each in siblings if each.name == name]:
            self._end(earlier)
        siblings.append(window)
        self._count += 1
        if circuit is not None:
            self._by_circuit[circuit] += 1
        for oldest in siblings[:-PER_SESSION]:
            self._remember(oldest)
            self._end(oldest)
        return window

    def close(self, window: Window) -> None:
        """The view has ended; closing twice does no harm."""
        siblings = self._open.get(window.session, [])
        if window in siblings:
            siblings.remove(window)
            self._leave(window)
        if not siblings:
            self._open.pop(window.session, None)

    def gave_way(self, session: bytes, name: str) -> bool:
        """Whether a newer window took this one's place."""
        return (session, name) in self._gave_way

    def end_session(self, session: bytes) -> None:
        """The visitor has signed out there."""
        for window in list(self._open.get(session, [])):
            self._end(window)

    def end_all(self) -> None:
        """The server stops: no view stays open, and none opens again."""
        self._closing = True
        for session in list(self._open):
            self.end_session(session)

    def _end(self, window: Window) -> None:
        window.end()
        self._open[window.session].remove(window)
        self._leave(window)

    def _leave(self, window: Window) -> None:
        self._count -= 1
        if window.circuit is not None:
            self._by_circuit -= Counter([window.circuit])  # Also forgets what has come to zero.

    def _remember(self, window: Window) -> None:
        self._gave_way[window.session, window.name] = None
        if len(self._gave_way) > _REMEMBERED:
            self._gave_way.popitem(last=False)
