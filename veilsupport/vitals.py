"""How the whole is at one moment: what `status`, the health checks and the metrics all read. Pure: no clock, no disk.

`status` is for the operator alone and names the onion address. `health` says of each part whether it does what it
is set up to do: a part that was not asked for is well. So without tor the page is, and without an account the
line to the admins; messages are kept until there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from veilsupport.alarms import DISK_LOW_BYTES
from veilsupport.tor import TorPhase, TorState
from veilsupport.xmpp import LinkState


@dataclass(frozen=True, slots=True)
class Part:
    """One part; `state` is plain words and holds no address."""

    name: str
    ready: bool
    state: str


@dataclass(frozen=True, slots=True)
class Mode:
    """How it is set up. `form`: rooms, direct, component; None without an account."""

    form: str | None
    passphrase: bool  # whether the appliance's key rests under one
    archive: bool  # whether copies are kept that the operator can open later
    private: bool  # whether the page is for authorised clients of Tor only


@dataclass(frozen=True, slots=True)
class Vitals:
    """Instants are Unix seconds."""

    now: float
    started_at: float
    versions: Mapping[str, str | None]  # veilsupport, tor, sqlite, python; None: not known (yet)
    page: str | None  # its address; None while that is not known
    reachable_since: float | None  # through Tor; None: it is not, or tor is not used
    tor: TorState | None  # None: not used
    xmpp: LinkState | None  # None: no account
    mode: Mode
    web_is_up: bool
    line_is_up: bool
    store_keeps: bool  # whether the disk took the latest transaction
    disk_free_bytes: int
    database_bytes: int
    admins: int
    conversations_open: int
    backlog: int
    oldest_due_at: float | None
    pages_open: int  # streams and sockets
    streams: int
    sockets: int
    rooms: int
    trouble: tuple[str, ...]
    pressed_by: str | None = None  # why new conversations need a puzzle; None: they do not
    remembered: int = 0  # strangers' doings that limits, guesses and puzzles hold

    @property
    def version(self) -> str:
        return self.versions["veilsupport"] or ""

    @property
    def oldest_waiting_seconds(self) -> int | None:
        """Of what the XMPP server has not acknowledged; to the minute, as on disk."""
        return None if self.oldest_due_at is None else max(0, int(self.now - self.oldest_due_at))

    @property
    def is_ready(self) -> bool:
        return all(part.ready for part in self.parts)

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order in which they are started."""
        disk = self.disk_free_bytes >= DISK_LOW_BYTES
        found = [
            Part("web", self.web_is_up, "serving" if self.web_is_up else "starting"),
            Part("store", self.store_keeps, "keeps" if self.store_keeps else "the disk did not take the latest write"),
            Part("disk", disk, "has room" if disk else "nearly full"),
            Part("tor", *_of_tor(self.tor)),
            Part("xmpp", *_of_link(self.xmpp, self.line_is_up)),
        ]
        private = self.tor.private if self.tor else None
        if private:
            is_ready = not private.clients or private.descriptors_uploaded > 0
            found.append(Part("xmpp_onion", is_ready, private.summary))
        return tuple(found)

    def health(self) -> dict[str, Any]:
        """Holds no address."""
        return {
            "ready": self.is_ready,
            "parts": {part.name: {"ready": part.ready, "state": part.state} for part in self.parts},
        }

    def status(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "versions": dict(self.versions),
            "uptime_seconds": int(self.now - self.started_at),
            **self.health(),
            "page": self.page,
            "reachable_since": self.reachable_since,
            "tor": asdict(self.tor) if self.tor else None,
            "xmpp": asdict(self.xmpp) if self.xmpp else None,
            "mode": asdict(self.mode),
            "trouble": list(self.trouble),
            "pressed_by": self.pressed_by,
            "admins": self.admins,
            "conversations_open": self.conversations_open,
            "waiting_to_be_delivered": self.backlog,
            "oldest_waiting_seconds": self.oldest_waiting_seconds,
            "pages_open": self.pages_open,
            "streams_open": self.streams,
            "sockets_open": self.sockets,
            "rooms": self.rooms,
            "disk_free_bytes": self.disk_free_bytes,
            "database_bytes": self.database_bytes,
        }


def _of_tor(state: TorState | None) -> tuple[bool, str]:
    if state is None:
        return True, "not used"
    return state.phase is TorPhase.REACHABLE, state.summary


def _of_link(state: LinkState | None, is_up: bool) -> tuple[bool, str]:
    if state is None:
        return True, "not set up: messages are kept until it is"
    return is_up, f"{state.summary} ({state.trouble})" if state.trouble and not is_up else state.summary
