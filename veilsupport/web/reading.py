"""A conversation as its visitor is shown it: the one place where a site's read marks are left out.

Where a site shows none (`Site.read_marks`), a message is "handed over" and no more, on every page, in the stream, over
REST and over the WebSocket, marks from before the setting included. Not "on an admin's device" either: in a room only a
read mark brings a message further than handed over, so that the device would mean that it was read. So pages and API
ask this for messages and progress, never the desk.
"""

from __future__ import annotations

from dataclasses import replace

from veilsupport.desk import Desk
from veilsupport.model import Message, Progress, Session


class Reading:
    """One visitor's. The setting is looked up each time: it may change while a page is open."""

    def __init__(self, desk: Desk, session: Session) -> None:
        self._desk = desk
        self._session = session

    def history(self, *, before: int | None = None, limit: int = 50) -> list[Message]:
        """`Desk.history`."""
        return self._shown(self._desk.history(self._session, before=before, limit=limit))

    def history_after(self, seq: int, *, limit: int = 50) -> list[Message]:
        """`Desk.history_after`."""
        return self._shown(self._desk.history_after(self._session, seq, limit=limit))

    def changed(self, *, before: int, limit: int = 50) -> list[Message]:
        """`Desk.changed`."""
        return self._shown(self._desk.changed(self._session, before=before, limit=limit))

    def progress(self) -> list[tuple[int, Progress]]:
        """`Desk.progress`."""
        furthest = self._furthest()
        return [(seq, min(progress, furthest)) for seq, progress in self._desk.progress(self._session)]

    def shown(self, progress: Progress) -> Progress:
        """How far a message has come, as the visitor may know."""
        return min(progress, self._furthest())

    def _shown(self, messages: list[Message]) -> list[Message]:
        furthest = self._furthest()
        return [replace(each, progress=furthest) if each.progress > furthest else each for each in messages]

    def _furthest(self) -> Progress:
        conversation = self._desk.conversation(self._session)
        shows = conversation is not None and self._desk.site(conversation.site).read_marks
        return Progress.READ if shows else Progress.HANDED_OVER  # burned meanwhile: nobody knows of which site it was
