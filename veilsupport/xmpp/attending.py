"""Who of the admins is there: whoever is in the staff room; where there is none, whoever is online as our contact.

An app in the background stays in its rooms as long as the server keeps its session (XEP-0198, push), so "there" means
that a message rings, not that somebody looks at the screen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from veilsupport.desk import Desk
from veilsupport.model import Admin


class Attending:
    """Told by the line and the rooms; tells the desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._admins = {admin.address.reveal().casefold(): admin for admin in desk.admins}
        self._devices: defaultdict[str, set[str]] = defaultdict(set)  # full JIDs that are online, by bare JID
        self._has_seen_any = False
        self._in_staff_room: frozenset[str] | None = None
        self._is_settled = False  # whether it is known in this session by what one is to judge

    def begin(self) -> None:
        """A fresh session: everyone's presence comes anew. What the desk knows holds until it is settled."""
        self._devices.clear()
        self._in_staff_room = None
        self._is_settled = False

    def in_staff_room(self, jids: Collection[str] | None) -> None:
        """Bare JIDs; None: there is no such room."""
        self._in_staff_room = None if jids is None else frozenset(jids)
        self._is_settled = True
        self._tell()

    def presence(self, jid: str, there: bool) -> None:
        """An admin's device, by its full JID, came or went."""
        devices = self._devices[jid.partition("/")[0].casefold()]
        if there:
            devices.add(jid)
        else:
            devices.discard(jid)
        self._has_seen_any = True
        self._tell()

    def devices(self, admin: Admin) -> list[str]:
        """Full JIDs of that admin's devices that are online."""
        return sorted(self._devices.get(admin.address.reveal().casefold(), ()))

    def is_in_staff_room(self, admin: Admin) -> bool:
        return self._in_staff_room is not None and admin.address.reveal().casefold() in self._in_staff_room

    def _tell(self) -> None:
        if not self._is_settled:
            return
        if self._in_staff_room is not None:
            there = self._in_staff_room
        elif self._has_seen_any:
            there = frozenset(jid for jid, devices in self._devices.items() if devices)
        else:
            self._desk.admins_are_there(None)
            return
        self._desk.admins_are_there([admin for jid, admin in self._admins.items() if jid in there])
