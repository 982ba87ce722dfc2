"""What is to be done about rooms, the urgent first: after a reconnect all of them come at once."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from enum import IntEnum, auto

from veilsupport.xmpp.place import Place


class Urgency(IntEnum):
    """Who comes first."""

    WANTED = auto()  # somebody has just said something there
    WAITING = auto()
    OTHER = auto()
    MEMBERS = auto()


@dataclass(slots=True)
class Job:
    """To bring a place up; or only to see to its members; or, without one, to destroy a room."""

    place: Place | None
    members_only: bool = False
    destroy: tuple[str, str] = field(default=("", ""), repr=False)  # stanza id and address


class Jobs:
    """Of one urgency the first to come is the first to be done. As many as there are rooms, at most."""

    def __init__(self) -> None:
        self._queue: asyncio.PriorityQueue[tuple[Urgency, int, Job]] = asyncio.PriorityQueue()
        self._numbers = itertools.count()

    def put(self, job: Job, urgency: Urgency = Urgency.WANTED) -> None:
        self._queue.put_nowait((urgency, next(self._numbers), job))

    async def next(self) -> Job:
        return (await self._queue.get())[2]
