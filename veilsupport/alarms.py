"""What is wrong so that a human is needed, said to the admins once, and once more when it is over. Pure: no clock.

It knows readings, not where they come from. What mends itself within a while is nobody's business: a phone that rings
for every hiccup of a circuit is soon switched off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

UNREACHABLE_SECONDS: Final = 10 * 60.0  # tor restarts and finds new circuits by itself in less
BACKLOG_SECONDS: Final = 15 * 60.0  # a server that throttles catches up in less
PRESSED_SECONDS: Final = 30 * 60.0  # a flood that comes in waves rings once
DISK_LOW_BYTES: Final = 200 * 2**20
DISK_FINE_BYTES: Final = 300 * 2**20  # not over before there is more than a moment's room


@dataclass(frozen=True, slots=True)
class Readings:
    """The state of things at one moment. Instants are Unix seconds."""

    page_lost_at: float | None  # since when the page cannot be fetched through Tor; None: it can, or need not be
    tor_trouble: str | None
    disk_free_bytes: int
    oldest_due_at: float | None  # since when the oldest delivery waits; None: none does
    line_up_since: float | None  # since when the admins' server can be reached; None: it cannot
    keeps_archive: bool | None  # whether the XMPP server keeps an archive of our chats; None: not known
    pressed_by: str | None = None  # why new conversations need a puzzle, in plain words; None: they do not


class Trouble(StrEnum):
    """The values are what is said when it is over."""

    PAGE = "The page can be reached through Tor again."
    DISK = "There is room on the disk again."
    BACKLOG = "What was waiting to be delivered has gone out."
    PRESSED = "New conversations begin without a question again."
    ARCHIVE = "The XMPP server keeps an archive of the desk's chats again."


class Alarms:
    """What is wrong, and what of it the admins have been told."""

    def __init__(self) -> None:
        self._standing: dict[Trouble, str] = {}
        self._told: set[Trouble] = set()
        self._pressed_at = -math.inf  # when it was pressed last
        self._may_return: frozenset[Trouble] = frozenset()  # what is over, and not yet worth telling

    @property
    def standing(self) -> tuple[str, ...]:
        """What is wrong at the moment, in plain words."""
        return tuple(self._standing.values())

    def look(self, readings: Readings, *, now: float) -> None:
        wrong = {each: words for each in Trouble if (words := self._wrong(each, readings, now))}
        self._standing = {each: self._standing.get(each, words) for each, words in wrong.items()}
        self._pressed_at = now if Trouble.PRESSED in wrong else self._pressed_at
        # A clock that was set back makes nobody wait for it.
        is_recent = 0 <= now - self._pressed_at < PRESSED_SECONDS
        self._may_return = frozenset({Trouble.PRESSED}) if is_recent else frozenset()

    def news(self) -> list[tuple[Trouble, str]]:
        """What to tell: troubles that have begun, and those that are over; again and again, until `told`."""
        begun = [(each, words) for each, words in self._standing.items() if each not in self._told]
        gone = self._told - self._standing.keys() - self._may_return
        over = [(each, each.value) for each in Trouble if each in gone]
        return [*begun, *over]

    def told(self, trouble: Trouble) -> None:
        """The admins will read that it has begun, or is over: that is on disk."""
        if trouble in self._standing:
            self._told.add(trouble)
        else:
            self._told.discard(trouble)

    def _wrong(self, trouble: Trouble, readings: Readings, now: float) -> str | None:
        match trouble:
            case Trouble.PAGE:
                return _page(readings, now)
            case Trouble.DISK:
                return self._disk(readings)
            case Trouble.BACKLOG:
                return _backlog(readings, now)
            case Trouble.PRESSED:
                return _pressed(readings)
            case Trouble.ARCHIVE:
                return ARCHIVE if readings.keeps_archive is False else None

    def _disk(self, readings: Readings) -> str | None:
        enough = DISK_FINE_BYTES if Trouble.DISK in self._standing else DISK_LOW_BYTES
        if readings.disk_free_bytes >= enough:
            return None
        free = readings.disk_free_bytes // 2**20
        return f"The desk's disk is nearly full ({free} MB left). When it is full, visitors' messages are refused."


ARCHIVE: Final = (
    "The XMPP server keeps no archive of the desk's chats: what you write while the desk is disconnected can be lost."
)


def _pressed(readings: Readings) -> str | None:
    if readings.pressed_by is None:
        return None
    return (
        f"The desk is under pressure: {readings.pressed_by}. Whoever begins a conversation has to answer a small"
        " question first; conversations that exist go on. This ends by itself."
    )


def _page(readings: Readings, now: float) -> str | None:
    if readings.page_lost_at is None or now - readings.page_lost_at < UNREACHABLE_SECONDS:
        return None
    why = f": {readings.tor_trouble}" if readings.tor_trouble else ""
    minutes = int((now - readings.page_lost_at) // 60)
    return f"Visitors have not reached the page through Tor for {minutes} minutes{why}. The operator is needed."


def _backlog(readings: Readings, now: float) -> str | None:
    """While the line is down nothing could go out; afterwards it takes a while to catch up."""
    if readings.line_up_since is None or readings.oldest_due_at is None:
        return None
    waited = now - max(readings.oldest_due_at, readings.line_up_since)
    if waited < BACKLOG_SECONDS:
        return None
    minutes = int(waited // 60)
    return f"Something has waited to be delivered for {minutes} minutes, although the server is there: !status"
