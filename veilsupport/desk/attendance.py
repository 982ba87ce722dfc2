"""Whether somebody is there to answer: what visitors of each site are told.

Somebody is there when it is within the hours and one who may answer can be seen and is not away. Who is away, and the
hours that an admin has set, rest sealed in the store, so that a restart tells visitors nothing else than before.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from veilsupport import crypto, hours
from veilsupport.desk.core import Core
from veilsupport.errors import SealError
from veilsupport.hours import Hours
from veilsupport.model import Admin, Attendance, AttendanceChanged, Role
from veilsupport.store import NewDelivery, Taken

AWAY: Final = (
    "Nobody is here at this moment. What you write is kept, and you get an answer here as soon as we are back."
)
_NO_HOURS: Final = "off"
_AWAY_SETTING: Final = "away"
_HOURS_SETTING: Final = "hours"


@dataclass(frozen=True, slots=True)
class With:
    """What is stored in one transaction with a change: who is told of it, and the stanza that asked for it.

    `place`: the conversation to which `told` belong.
    """

    minute: int = 0
    told: Sequence[NewDelivery] = ()
    taken: Taken | None = None
    place: bytes | None = None


ALONE: Final = With()


class Attendances(Core):
    """Who is there, who is away, and the hours."""

    _there: frozenset[bytes] | None = None  # admins' ids; None: nobody can tell, so whoever answers counts as there
    _absent: Mapping[bytes, str] | None = (
        None  # admin's id → what visitors may read, the latest last; None: not looked up
    )
    _override: tuple[Hours | None] | None = None  # the hours that an admin has set; None: not looked up
    _was_open: Mapping[str, bool] = {}  # by site, as the open pages were told last

    def admins_are_there(self, there: Collection[Admin] | None) -> None:
        """Who can be seen at this moment: in the staff room, or as a contact that is online; None: nobody can tell."""
        seen = None if there is None else frozenset(map(self.admin_id, there))
        if seen != self._there:
            self._there = seen
            self.listeners.tell_all(AttendanceChanged())

    async def admin_is_away(self, admin: Admin, words: str, together: With = ALONE) -> None:
        """Until `admin_is_back`; `words` is what visitors read while nobody else is there, "" for the usual."""
        others = {each: told for each, told in self._away().items() if each != self.admin_id(admin)}
        await self._keep_away(others | {self.admin_id(admin): words}, together)

    async def admin_is_back(self, admin: Admin) -> None:
        """They wrote something, whatever it was and wherever, but `!away`."""
        if self.is_away(admin):
            await self._keep_away({each: told for each, told in self._away().items() if each != self.admin_id(admin)})

    def is_away(self, admin: Admin) -> bool:
        return self.admin_id(admin) in self._away()

    def is_seen(self, admin: Admin) -> bool:
        """Whether they are there, away or not, as far as anybody can tell."""
        return self._there is None or self.admin_id(admin) in self._there

    def attendance(self, site: str, *, now: float) -> Attendance:
        """As visitors of that site are told."""
        open_now = self.hours_of(site).open_at(now)
        if site not in self._was_open:
            self._was_open = {**self._was_open, site: open_now}
        answering = self.admins_of(site, Role.ANSWERS)
        staffed = open_now and any(self.is_seen(admin) and not self.is_away(admin) for admin in answering)
        away = "" if staffed else self._away_words(site)
        return Attendance(self.line_is_up, staffed, away, self.keeps_copies)

    def attendance_tick(self, now: float) -> None:
        """To be called each minute: open pages are told when hours have begun or ended."""
        open_now = {site: self.hours_of(site).open_at(now) for site in self._was_open}
        if open_now != self._was_open:
            self._was_open = open_now
            self.listeners.tell_all(AttendanceChanged())

    def hours_of(self, site: str) -> Hours:
        """Those that an admin has set; else the site's own."""
        override = self.hours_override()
        return hours.parse(self.site(site).hours) if override is None else override

    def hours_override(self) -> Hours | None:
        """The hours that an admin has set for the whole desk; None: the settings hold."""
        if self._override is None:
            self._override = (_hours_or_none(self._setting(_HOURS_SETTING)),)
        return self._override[0]

    async def set_hours(self, override: Hours | None, *, now: float, together: With = ALONE) -> None:
        """For the whole desk, over what the settings say; None takes that away."""
        await self._keep(_HOURS_SETTING, _NO_HOURS if override is None else str(override), together)
        self._override = (override,)
        self.attendance_tick(now)

    # ---- within ----------------------------------------------------------------------------------------------

    def _away_words(self, site: str) -> str:
        """The latest words of one who would answer there; else the site's."""
        theirs = {self.admin_id(admin) for admin in self.admins_of(site, Role.ANSWERS)}
        own = [words for admin, words in self._away().items() if words and admin in theirs]
        return own[-1] if own else self.site(site).away or AWAY

    def _away(self) -> Mapping[bytes, str]:
        if self._absent is None:
            found = json.loads(self._setting(_AWAY_SETTING) or "{}")
            self._absent = {bytes.fromhex(admin): words for admin, words in found.items()}
        return self._absent

    async def _keep_away(self, absent: Mapping[bytes, str], together: With = ALONE) -> None:
        await self._keep(_AWAY_SETTING, json.dumps({admin.hex(): words for admin, words in absent.items()}), together)
        self._absent = absent
        self.listeners.tell_all(AttendanceChanged())

    def _setting(self, name: str) -> str:
        """Opened; "" when there is none, or it does not open."""
        wrapped = self.store.setting(name)
        try:
            return crypto.unwrap_text(self.key.settings, wrapped, name.encode()) if wrapped else ""
        except SealError:
            return ""

    async def _keep(self, name: str, text: str, together: With = ALONE) -> None:
        sealed, minute = crypto.wrap_text(self.key.settings, text, name.encode()), together.minute
        told, taken, place = together.told, together.taken, together.place
        await self.store.set_setting(name, sealed, minute=minute, notices=told, taken=taken, place=place)


def _hours_or_none(text: str) -> Hours | None:
    """None also when this machine has lost the zone since they were set: the settings hold then."""
    try:
        return None if text in ("", _NO_HOURS) else hours.parse(text)
    except ValueError:
        return None
