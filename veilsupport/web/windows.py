"""Which windows of which session have an open live view, and which had to give way.

A browser opens six connections to one host and no more (facts/nojs.md, 6), and a live view holds one for hours.
So a session has few of them: a newer one ends the oldest. Each window has a random name of its own that it carries
over its reconnections, so that the one that gave way is told so when it comes back, and does not push the
newer one out in turn. Knows neither HTTP nor the desk; bounded.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

PER_SESSION: Final = 2
_REMEMBERED: Final = 4096


class Window:
    """One open live view; `over` is set when it has to end."""

    def __init__(self, session: bytes, name: str) -> None:
        self.session = session
        self.name = name
        self.over = asyncio.Event()


class Windows:
    """All open live views of this process."""

    def __init__(self) -> None:
        self._open: dict[bytes, list[Window]] = {}
        self._gave_way: OrderedDict[tuple[bytes, str], None] = OrderedDict()
        self._closing = False

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def open(self, session: bytes, name: str) -> Window:
        """Reserve a place, ending the oldest when there are too many. The same window's earlier view ends too."""
        window = Window(session, name)
        if self._closing:
            window.over.set()
        siblings = self._open.setdefault(session, [])
        for earlier in [each for each in siblings if each.name == name]:
            self._end(earlier)
        siblings.append(window)
        for oldest in siblings[:-PER_SESSION]:
            self._remember(oldest)
            self._end(oldest)
        return window

    def close(self, window: Window) -> None:
        """The view has ended; closing twice does no harm."""
        siblings = self._open.get(window.session, [])
        if window in siblings:
            siblings.remove(window)
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
        window.over.set()
        self._open[window.session].remove(window)

    def _remember(self, window: Window) -> None:
        self._gave_way[window.session, window.name] = None
        if len(self._gave_way) > _REMEMBERED:
            self._gave_way.popitem(last=False)
