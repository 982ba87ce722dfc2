"""Who is watching a conversation right now: one listener for each open page or socket."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import TracebackType
from typing import Final

from veilsupport.inbox import Inbox
from veilsupport.model import Ended, Event

WAITING_MAX: Final = 256  # events; a reader further behind than this starts anew from the history


class Listener:
    """One open page's view of a conversation. Bounded: a reader too slow gets `Ended` and starts anew."""

    def __init__(self, listeners: Listeners, conversation: bytes, session: bytes) -> None:
        self._listeners = listeners
        self._conversation = conversation
        self.session = session  # its token's hash
        self._events: Inbox[Event] = Inbox()

    async def next(self, timeout_seconds: float | None = None) -> Event | None:
        """The next event; None when nothing happened for that long, or `wake` was called.

        The last one is an end, so it may be waited for without a limit.
        """
        if self._events.empty():
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._events.stir()
            except TimeoutError:
                pass
        return None if self._events.empty() else await self._events.get()

    def has_last(self, event: Event) -> bool:
        """Whether that is what was told last, and is still waiting."""
        return self._events.last() == event

    def wake(self) -> None:
        """Let whoever waits for the next event look at something else."""
        self._events.wake()

    def offer(self, event: Event) -> None:
        if self._events.qsize() >= WAITING_MAX:
            self._listeners.remove(self._conversation, self)
            self._events.clear()
            event = Ended(burned=False)
        self._events.put_nowait(event)

    def close(self) -> None:
        self._listeners.remove(self._conversation, self)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Listeners:
    """All listeners, by conversation. Used on the loop's thread only."""

    def __init__(self) -> None:
        self._of: defaultdict[bytes, list[Listener]] = defaultdict(list)

    def add(self, conversation: bytes, session: bytes) -> Listener:
        listener = Listener(self, conversation, session)
        self._of[conversation].append(listener)
        return listener

    def remove(self, conversation: bytes, listener: Listener) -> None:
        if listener in self._of.get(conversation, ()):
            self._of[conversation].remove(listener)
            if not self._of[conversation]:
                del self._of[conversation]

    def tell(self, conversation: bytes, event: Event) -> None:
        for listener in tuple(self._of.get(conversation, ())):
            listener.offer(event)

    def tell_session(self, conversation: bytes, session: bytes, event: Event) -> None:
        """Only the pages that one session has open."""
        for listener in tuple(self._of.get(conversation, ())):
            if listener.session == session:
                listener.offer(event)

    def tell_all(self, event: Event) -> None:
        for conversation in tuple(self._of):
            self.tell(conversation, event)

    def __len__(self) -> int:
        return sum(len(listeners) for listeners in self._of.values())
