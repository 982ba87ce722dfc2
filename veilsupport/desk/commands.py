"""What a `!` command does. Each returns what it comes to; storing that, and telling people, is done in admins.py.

Here are the commands about one conversation and those that only tell; deskwide.py has the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from veilsupport import commands
from veilsupport.commands import Command
from veilsupport.desk.answers import NOT_YOURS, Answers, accepted
from veilsupport.desk.core import minute_of
from veilsupport.desk.overview import Overview
from veilsupport.errors import AdminError, NotFound
from veilsupport.model import Admin, Conversation, DeliveryKind, Intake, Request, Role, Standing, StandingChanged
from veilsupport.store import ROOM, NewDelivery, Taken

LEFT_OUT: Final = "Only of sites that everyone here may read; ask in the chat with the desk for all of yours."
_EVERY_SITE: Final = (
    "That is not yours to do: it counts on more sites than those on which your role is leads. Nothing was changed."
)
_NOTHING_HELD: Final = "Nothing is held back from you."
_DONE: Final = {Standing.CLOSED: "closed", Standing.OPEN: "reopened", Standing.BLOCKED: "blocked"}


class Where(Enum):
    """Where a command was written, and so where its answer goes."""

    CHAT = auto()  # between one admin and the desk
    ROOM = auto()  # a conversation's
    STAFF_ROOM = auto()
    SHELL = auto()  # the operator's command line: the answer is not queued


@dataclass(frozen=True, slots=True)
class Asked:
    """One command, and what it is about; what the table demands of the admin has been checked.

    `place`: in which conversation's room it was written. `intake` None: it came by no stanza, or is noted already.
    """

    admin: Admin
    command: Command
    where: Where
    place: bytes | None
    intake: Intake | None
    now: float
    conversation: Conversation | None = None
    public_key: bytes = b""

    @property
    def one(self) -> Conversation:
        """The conversation of a command that needs one."""
        assert self.conversation is not None
        return self.conversation

    @property
    def in_its_room(self) -> bool:
        """Whether everybody whom it concerns saw it being written."""
        in_a_room = self.where is Where.ROOM
        return in_a_room and self.conversation is not None and self.conversation.id == self.place


def _nothing_more() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Effect:
    """What a command comes to. All of it is stored in one transaction, together with the stanza that asked for it.

    `answer` goes where the command was written, `news` to the others, unless that was the staff room; `knows` is told
    in `notices`, which belong to the conversation. `store` keeps the change and what it is given to be told; None:
    there is nothing to keep but that. `burned`: the conversation is gone with it. `after` runs when it is on disk.
    """

    answer: str
    news: str = ""
    knows: Admin | None = None
    notices: Sequence[NewDelivery] = ()
    store: Callable[[Sequence[NewDelivery]], Awaitable[object]] | None = None
    burned: bool = False
    after: Callable[[], None] = field(default=_nothing_more)


class Commands(Answers, Overview):
    """The works behind the table of verbs, one method each."""

    # ---- those that only tell --------------------------------------------------------------------------------

    async def _help(self, asked: Asked) -> Effect:
        if asked.where is Where.SHELL:
            return Effect(commands.shell_help())
        return Effect(commands.help_text(room=asked.place is not None))

    async def _list(self, asked: Asked) -> Effect:
        listing = self.listing(*self._readers(asked), now=asked.now)
        return Effect(f"{listing}{self._what_is_left_out(asked)}")

    async def _alike(self, asked: Asked) -> Effect:
        return Effect(self.alike(asked.one, now=asked.now))

    async def _who(self, asked: Asked) -> Effect:
        return Effect(f"{self.who(*self._readers(asked))}{self._what_is_left_out(asked)}")

    async def _status(self, asked: Asked) -> Effect:
        return Effect(f"{self.standing(*self._readers(asked))}{self._what_is_left_out(asked)}")

    def _readers(self, asked: Asked) -> list[Admin]:
        """Whoever reads the answer where it goes."""
        if asked.where is Where.STAFF_ROOM:
            return [asked.admin, *self.admins]
        room = self.store.conversation(asked.place) if asked.where is Where.ROOM and asked.place else None
        return [asked.admin, *(self.admins_of(room.site) if room else ())]

    def _what_is_left_out(self, asked: Asked) -> str:
        """By the roles, not by what there is: it tells nobody of a conversation."""
        readers = self._readers(asked)
        theirs = [site for site in self.sites if asked.admin.role_at(site) >= Role.READS]
        if all(each.role_at(site) >= Role.READS for each in readers for site in theirs):
            return ""
        return f"\n{LEFT_OUT}"

    # ---- whose it is -----------------------------------------------------------------------------------------

    async def _claim(self, asked: Asked) -> Effect:
        alias, before = asked.one.alias, self.name_of(asked.one.owner)
        if asked.one.owner == self.admin_id(asked.admin):
            return Effect(f"{alias} is yours already.")
        was = f" It was {before}'s." if before else ""
        return self._owned(
            asked, asked.admin, Effect(f"{alias} is yours now.{was}", f"{asked.admin.name} has taken {alias}.{was}")
        )

    async def _assign(self, asked: Asked) -> Effect:
        alias, target = asked.one.alias, self._admin_called(asked.command.words)
        if target.role_at(asked.one.site) < Role.ANSWERS:
            raise AdminError(f"{target.name} may not answer on that site, so nothing was changed.")
        if asked.one.owner == self.admin_id(target):
            return Effect(f"{alias} is {target.name}'s already.")
        if target == asked.admin:
            return await self._claim(asked)
        told = self._deliveries(DeliveryKind.NOTICE, [target], f"{asked.admin.name} has given {alias} to you.")
        news = f"{asked.admin.name} has given {alias} to {target.name}."
        return self._owned(asked, target, Effect(f"{alias} is {target.name}'s now.", news, target, told))

    def _owned(self, asked: Asked, owner: Admin, said: Effect) -> Effect:
        """`said`, and the conversation becomes theirs."""

        async def keep(told: Sequence[NewDelivery]) -> None:
            await self.store.set_owner(
                asked.one.id,
                self.admin_id(owner),
                minute=minute_of(asked.now),
                notices=told,
                taken=self._seen(asked),
                unfold=self._unfolded,
            )
            self._repeats.forget(asked.one.id)

        return replace(said, store=keep, after=lambda: self.on_changed(asked.one.id))

    # ---- how it stands ---------------------------------------------------------------------------------------

    async def _close(self, asked: Asked) -> Effect:
        return self._set_standing(asked, Standing.CLOSED)

    async def _reopen(self, asked: Asked) -> Effect:
        return self._set_standing(asked, Standing.OPEN)

    async def _block(self, asked: Asked) -> Effect:
        """What follows the name is the last that the visitor reads there: why."""
        blocked = self._set_standing(asked, Standing.BLOCKED)
        if not asked.command.words:
            return blocked
        said = await self._say_it(asked)

        async def keep(told: Sequence[NewDelivery]) -> None:
            """Blocked first: if we are cut off in between, it is without a reason, and not the other way round."""
            assert blocked.store is not None
            await blocked.store(told)
            await self._say(
                asked.admin, asked.one, asked.public_key, accepted(asked.command.words), (), intake=None, now=asked.now
            )

        return replace(blocked, notices=[*said.notices, *blocked.notices], store=keep)

    def _set_standing(self, asked: Asked, standing: Standing) -> Effect:
        """Its room gets a last line in any case: it is left then, and is all that one sees of it later."""
        conversation, done = asked.one, _DONE[standing]
        how = (
            f" A new message of the visitor opens it again, or !reopen {conversation.alias} in the chat with the desk."
        )
        rest = how if standing is Standing.CLOSED else ""
        news = f"{asked.admin.name} has {done} {conversation.alias}."
        answer = f"{conversation.alias} is {done}."

        async def keep(told: Sequence[NewDelivery]) -> None:
            await self.store.set_standing(
                conversation.id, standing, minute=minute_of(asked.now), notices=told, taken=self._seen(asked)
            )

        def after() -> None:
            self.listeners.tell(conversation.id, StandingChanged(standing))
            self.on_changed(conversation.id)

        if asked.in_its_room:
            return Effect(answer + rest, store=keep, after=after)
        return Effect(answer, news, notices=self._into_its_room(conversation, news + rest), store=keep, after=after)

    async def _burn_it(self, asked: Asked) -> Effect:
        alias = asked.one.alias

        async def keep(told: Sequence[NewDelivery]) -> None:
            await self._burn(asked.one.id, told, now=asked.now, taken=self._seen(asked))

        stays = "" if asked.one.request is Request.FOLDED else f" {self._what_stays(asked.one.id)}"
        news = f"{asked.admin.name} has burned {alias}.{stays}"
        return Effect(f"{alias} is burned.{stays}", news, store=keep, burned=True)

    def _into_its_room(self, conversation: Conversation, text: str) -> list[NewDelivery]:
        """Only if there is one: none is made just for that."""
        if not self.has_room(conversation.id) or self.room_of(conversation.id) is None:
            return []
        return [self._delivery(DeliveryKind.NOTICE, ROOM, text)]

    # ---- words -----------------------------------------------------------------------------------------------

    async def _note(self, asked: Asked) -> Effect:
        """In its own room it stands already."""
        if asked.in_its_room:
            return Effect("")
        told = self._to_others(asked.admin, asked.one, f"note by {asked.admin.name}: {accepted(asked.command.words)}")
        if not told:
            return Effect("Nobody else reads that conversation, so the note is with nobody.")
        return Effect("The others have your note; the visitor does not see it.", notices=told)

    async def _say_it(self, asked: Asked) -> Effect:
        """In its own room the others saw what was said."""
        body = accepted(asked.command.words)
        told = [] if asked.in_its_room else self._to_others(asked.admin, asked.one, f"{asked.admin.name}: {body}")
        return self._said(asked, body, told, "" if asked.in_its_room else f"Sent to {asked.one.alias}.")

    def _said(self, asked: Asked, body: str, notices: Sequence[NewDelivery], answer: str) -> Effect:
        async def keep(told: Sequence[NewDelivery]) -> None:
            await self._say(asked.admin, asked.one, asked.public_key, body, told, intake=asked.intake, now=asked.now)

        return Effect(answer, notices=notices, store=keep)

    async def _show(self, asked: Asked) -> Effect:
        """Without a name, of every conversation of theirs, whatever its standing.

        The stanza is noted as seen together with the first of them: a repetition must bring nothing that came later.
        """
        me, minute = self.admin_id(asked.admin), minute_of(asked.now)
        if asked.conversation and asked.conversation.request is Request.FOLDED:
            return self._open_request(asked)
        those = [asked.one.id] if asked.conversation else self._maybe_held(asked.admin)
        if not those:
            return Effect(_NOTHING_HELD)
        taken = [self._seen(asked), *[None] * (len(those) - 1)]
        released = 0
        for each, seen in zip(those, taken, strict=True):
            released += await self.store.release(each, me, minute=minute, taken=seen)
        self.wake.set()

        async def answer(told: Sequence[NewDelivery]) -> None:
            home = asked.conversation.id if asked.conversation else asked.place
            with contextlib.suppress(NotFound):  # burned at this very moment, and what was held with it
                await self.store.queue(told, minute=minute, conversation=home)

        here = "" if asked.where is Where.CHAT else "It comes into your chat with the desk."
        return Effect(here if released else _NOTHING_HELD, store=answer)

    def _open_request(self, asked: Asked) -> Effect:
        """A folded one: what was held comes to everybody, as if it had come now."""
        conversation, minute = asked.one.id, minute_of(asked.now)

        async def keep(told: Sequence[NewDelivery]) -> None:
            seen = self._seen(asked)
            await self.store.unfold(conversation, self._unfolded, minute=minute, notices=told, taken=seen)
            await self.store.release(conversation, self.admin_id(asked.admin), minute=minute)

        return Effect(f"{asked.one.alias} is opened.", store=keep, after=lambda: self.on_changed(conversation))

    def _maybe_held(self, admin: Admin) -> list[bytes]:
        """Conversations of whose messages one at least has not come to that admin."""
        me = self.admin_id(admin)
        missing = [each for each, _ in self.store.strays(lambda delivery: delivery.admin != me)]
        theirs = [each.conversation for each in missing if admin.role_at(each.site) >= Role.READS]
        return list(dict.fromkeys(each for each in theirs if each is not None))

    # ---- within ----------------------------------------------------------------------------------------------

    def _seen(self, asked: Asked) -> Taken | None:
        return self._taken(asked.intake) if asked.intake else None

    def _admin_called(self, name: str) -> Admin:
        """By public name, in any case. AdminError: there is none."""
        for admin in self.admins:
            if admin.name.casefold() == name.casefold():
                return admin
        near = commands.nearest(name.casefold(), [admin.name.casefold() for admin in self.admins])
        meant = [admin.name for admin in self.admins if admin.name.casefold() in near]
        hint = f"Did you mean {' or '.join(meant)}?" if meant else "!who shows everyone."
        raise AdminError(f"There is no admin of that name, so nothing was done. {hint}")

    def _must_be(self, admin: Admin, role: Role) -> None:
        """On some site at least. AdminError: nowhere."""
        if max(admin.role_at(site) for site in self.sites) < role:
            raise AdminError(NOT_YOURS)

    def _must_lead(self, admin: Admin, sites: Iterable[str]) -> None:
        """AdminError: not on each of them."""
        if any(admin.role_at(site) < Role.LEADS for site in sites):
            raise AdminError(_EVERY_SITE)
