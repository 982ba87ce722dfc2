"""One room as the present session knows it. Nothing of it rests on disk but the address."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final
from xml.etree.ElementTree import Element

_ANSWERS_MAX: Final = 50


class State(Enum):
    """How far a room has been brought up."""

    OUT = auto()
    OPENING = auto()
    READY = auto()


@dataclass(slots=True, eq=False)
class Place:
    """`conversation` None: the staff room. `answers` are (sequence number, archive id) of what admins said lately."""

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
