"""The rooms as the present session knows them. Nothing of them rests on disk but the address."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Self
from xml.etree.ElementTree import Element

from veilsupport.model import Conversation

_ANSWERS_MAX: Final = 50


class State(Enum):
    """How far a room has been brought up."""

    OUT = auto()
    OPENING = auto()
    READY = auto()


@dataclass(slots=True, eq=False)
class Place:
    """One room. `conversation` None: the staff room.

    `answers` are (sequence number, archive id) of what admins said there lately.
    """

    conversation: bytes | None
    alias: str
    address: str = field(repr=False)
    site: str = ""
    invites: bool = False  # everyone is called, because they may have left when it was closed
    state: State = State.OUT
    busy: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)  # held while it is being brought up
    is_disturbed: bool = False  # what is being done to bring it up has been overtaken
    held: deque[tuple[Element, str]] = field(default_factory=deque, repr=False)
    answers: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=_ANSWERS_MAX), repr=False)
    subject: str | None = field(default=None, repr=False)  # as the room shows it
    subject_asked: str = field(default="", repr=False)  # as we wanted it last
    strangers: set[str] = field(default_factory=set, repr=False)  # bare JIDs of whom the admins are to be told
    bounced: set[str] = field(default_factory=set, repr=False)  # our lines that once came back
    marked: str = ""  # up to which answer the visitor is known to have read
    looks_stale: bool = False
    failures: int = 0
    ready_at: float = 0.0
    again_at: float = 0.0

    @classmethod
    def of(cls, conversation: Conversation, address: str, *, invites: bool = False) -> Self:
        return cls(conversation.id, conversation.alias, address, site=conversation.site, invites=invites)

    @property
    def is_ready(self) -> bool:
        return self.state is State.READY


class Places:
    """All of them, by conversation (None: `staff`) and by address."""

    def __init__(self) -> None:
        self.staff = Place(None, "", "")
        self._of: dict[bytes, Place] = {}
        self._at: dict[str, Place] = {}

    def __iter__(self) -> Iterator[Place]:
        return iter([self.staff, *self._of.values()])

    def __contains__(self, place: Place) -> bool:
        """Whether it belongs to the present session, and is still wanted."""
        return place is (self.staff if place.conversation is None else self._of.get(place.conversation))

    def of(self, conversation: bytes | None) -> Place | None:
        return self.staff if conversation is None else self._of.get(conversation)

    def at(self, address: str) -> Place | None:
        return self._at.get(address)

    def put(self, place: Place) -> None:
        if place.conversation is None:
            self.staff = place
        else:
            self._of[place.conversation] = place
        self.placed(place)

    def placed(self, place: Place) -> None:
        """It has an address, or another one than before."""
        if place.address and place in self:
            self._at[place.address] = place

    def forget(self, place: Place) -> None:
        if place.conversation is not None and place in self:
            del self._of[place.conversation]
        if self._at.get(place.address) is place:
            del self._at[place.address]

    def clear(self) -> dict[bytes, Place]:
        """A session ends; what it had for conversations."""
        before, self._of, self._at = self._of, {}, {}
        self.staff = Place(None, "", "")
        return before
