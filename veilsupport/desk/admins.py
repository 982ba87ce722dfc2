"""What admins, and the operator, tell the desk to do: from a command to its method, and then to disk and to people.

A command takes effect together with the stanza that brought it, once. Its answer goes where it was written; the others
are told once, unless they saw it there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from veilsupport import commands
from veilsupport.commands import About, Command
from veilsupport.desk.answers import GONE
from veilsupport.desk.commands import Asked, Effect, Where
from veilsupport.desk.core import minute_of
from veilsupport.desk.deskwide import DeskWide
from veilsupport.desk.outbox import Outbox
from veilsupport.errors import AdminError, NotFound, StoreError
from veilsupport.model import Admin, AttendanceChanged, DeliveryKind, Intake, Private, Role
from veilsupport.store import ROOM, NewDelivery

OPERATOR: Final = Admin("The desk", Private(""), Role.LEADS)  # who commands from the shell, and has no account


class Admins(DeskWide, Outbox):
    """The admins' half of the desk."""

    async def admin_commands(
        self,
        admin: Admin,
        command: Command,
        *,
        intake: Intake,
        now: float,
        place: bytes | None = None,
        staff: bool = False,
    ) -> None:
        """Carry out a `!` command; its answer is queued as a notice, and so is what is wrong with it.

        `place`: the conversation in whose room it was written; `staff`: it was the staff room; else the chat with the
        desk. Duplicate: this intake took effect before.
        """
        asked = Asked(admin, command, self._where(place, staff), place, intake, now)
        try:
            asked = self._checked(replace(asked, admin=self._present(admin)))
            await self._settle(asked, await _WORKS[command.verb](self, asked))
        except AdminError as error:
            await self._refuse(asked, error.message)

    async def operator_commands(self, line: str, *, now: float) -> tuple[bool, str]:
        """The same language from the command line, with or without `!`: whether it was done, and what to say."""
        try:
            command = commands.parse("!" + line.strip().removeprefix("!"))
            if not isinstance(command, Command) or not commands.fits_the_shell(command):
                raise AdminError("That makes sense only in a chat, so nothing was done.")
            asked = self._checked(Asked(OPERATOR, command, Where.SHELL, None, None, now))
            effect = await _WORKS[command.verb](self, asked)
            await self._settle(asked, effect)
        except (AdminError, StoreError) as error:
            return False, error.message
        return True, effect.answer

    async def change_admins(self, admins: Sequence[Admin], *, now: float) -> None:
        """Others answer from now on: what is due to those who are no more goes to them."""
        self.admins = tuple(admins)
        self._admin_of = {self.admin_id(admin): admin for admin in self.admins}
        await self.reassign(now=now)
        self.listeners.tell_all(AttendanceChanged())
        self.wake.set()

    # ---- within ----------------------------------------------------------------------------------------------

    def _where(self, place: bytes | None, staff: bool) -> Where:
        if place is not None and self.has_room(place):
            return Where.ROOM
        return Where.STAFF_ROOM if staff and self.uses_rooms else Where.CHAT

    def _checked(self, asked: Asked) -> Asked:
        """With its conversation. AdminError: there is none, or the admin may not do that."""
        command, verb = asked.command, commands.verb(asked.command.verb)
        if verb.about is not About.NONE and command.alias is not None:
            conversation, public_key = self._called(command.alias, asked.admin, verb.role)
            return replace(asked, conversation=conversation, public_key=public_key)
        if verb.about is About.ONE:
            raise AdminError(f"Which conversation? Write: {verb.shape('heron-42')}")
        self._must_be(asked.admin, verb.role)
        return asked

    async def _settle(self, asked: Asked, effect: Effect) -> None:
        """Store what a command comes to, and wake whoever tells people."""
        home = None if effect.burned else asked.conversation.id if asked.conversation else asked.place
        told = [*self._answer(asked, effect.answer, home), *effect.notices, *self._news(asked, effect)]
        try:
            if effect.store is not None:
                await effect.store(told)
            else:
                await self.store.queue(told, minute=minute_of(asked.now), conversation=home, taken=self._seen(asked))
        except NotFound:  # burned at this very moment
            raise AdminError(GONE) from None
        effect.after()
        self.wake.set()

    def _answer(self, asked: Asked, text: str, home: bytes | None) -> list[NewDelivery]:
        if not text or asked.where is Where.SHELL:
            return []
        if asked.where is Where.STAFF_ROOM:
            return self._to_staff(text)
        if asked.where is Where.ROOM and home == asked.place:
            return [self._delivery(DeliveryKind.NOTICE, ROOM, text)]
        return self._deliveries(DeliveryKind.NOTICE, [asked.admin], text)

    def _news(self, asked: Asked, effect: Effect) -> list[NewDelivery]:
        """What the others read of it; in the staff room they saw it."""
        if not effect.news or asked.where is Where.STAFF_ROOM:
            return []
        if asked.conversation is None:
            return self._to_staff(effect.news, but_for=asked.admin)
        return self._news_of(asked.conversation, effect.news, but_for=(asked.admin, effect.knows))

    async def _refuse(self, asked: Asked, words: str) -> None:
        try:
            await self._settle(asked, Effect(words))
        except AdminError:  # the room in which it was written is gone
            await self.tell(asked.admin, words, intake=asked.intake, now=asked.now)


_WORKS: Final[Mapping[str, Callable[[Admins, Asked], Awaitable[Effect]]]] = {
    "help": Admins._help,
    "list": Admins._list,
    "alike": Admins._alike,
    "who": Admins._who,
    "status": Admins._status,
    "claim": Admins._claim,
    "assign": Admins._assign,
    "away": Admins._be_away,
    "close": Admins._close,
    "reopen": Admins._reopen,
    "block": Admins._block,
    "burn": Admins._burn_it,
    "note": Admins._note,
    "say": Admins._say_it,
    "show": Admins._show,
    "canned": Admins._canned,
    "hours": Admins._hours,
    "omemo": Admins._omemo,
    "trust": Admins._trust,
}
