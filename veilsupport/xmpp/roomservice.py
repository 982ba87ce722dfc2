"""The rooms of our own server: found, made, entered, filled with members, destroyed. Knows no desk and no visitor.

A room counts as made when the server says of it (XEP-0030) that it is all that we need. One that was left half-made by
a crash is made to the end by whoever enters it next.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from veilsupport.errors import Unavailable
from veilsupport.xmpp import muc
from veilsupport.xmpp.line import Declined, Line

_DISCO_ITEMS: Final = "{http://jabber.org/protocol/disco#items}"
_LOOK_SECONDS: Final = 15.0  # for what a server says of itself; a dead part of it shall not keep us from the others
_ARCHIVE: Final = "urn:xmpp:mam:2"
_MAY_PASS: Final = {"resource-constraint", "internal-server-error", "remote-server-timeout", "recipient-unavailable"}
_LOST: Final = {"gone", "item-not-found", "forbidden", "registration-required"}

# RFC 6120 §8.3.3 and XEP-0045 §7.2: the words behind a server's refusal.
_WHY: Final = {
    "not-allowed": "it does not let this account make rooms",
    "forbidden": "it does not let this account make rooms",
    "resource-constraint": "it allows no more rooms or members",
    "service-unavailable": "it has no rooms",
    "remote-server-not-found": "its rooms cannot be reached",
    "item-not-found": "it does not let new rooms be made",
    "gone": "it does not let new rooms be made",
    "jid-malformed": "it does not take our names of rooms",
}


class Refused(Exception):
    """The server does not let us have that room; why, in plain words.

    `may_pass`: it is in trouble, or counts something that we have too much of, which may be the ghost of our last
    session (ejabberd clears it away while the new one begins).
    """

    def __init__(self, why: str, *, may_pass: bool = False) -> None:
        super().__init__(why)
        self.may_pass = may_pass


class Lost(Refused):
    """It was destroyed, or is not ours any more; another address may do."""


@dataclass(frozen=True, slots=True)
class Entered:
    """`created`: it had to be made. `new`: bare JIDs of those who were no members before."""

    created: bool
    new: Collection[str] = field(repr=False)


class RoomService:
    """`jid` is the service's; "" while none is known."""

    def __init__(self, line: Line) -> None:
        self.jid = ""
        self._line = line
        self._form: Element | None = None  # the owner's form of a room that was just made: they are all alike

    async def find(self, *, known: str) -> None:
        """A service of our server that has rooms: the `known` one if it still has, so that nothing moves without need.

        Refused: there is none. Unavailable: no answer.
        """
        self.jid = ""
        self._form = None
        items = await self._line.ask("get", Element(f"{_DISCO_ITEMS}query"), to=self._line.domain)
        if isinstance(items, Declined):
            raise Refused("it does not tell what it offers")
        offered = items.findall(f"{_DISCO_ITEMS}query/{_DISCO_ITEMS}item")
        found = {item.get("jid", "").casefold() for item in offered if not item.get("node")} - {""}
        for jid in sorted(found, key=lambda jid: (jid != known, jid)):
            if await self._has_rooms(jid):
                self.jid = jid
                return
        raise Refused("it has no rooms")

    def new_address(self, kind: str) -> str:
        """Nobody can guess it."""
        return f"{kind}-{secrets.token_hex(10)}@{self.jid}"

    def has(self, address: str) -> bool:
        return bool(self.jid) and address.partition("@")[2] == self.jid

    async def enter(self, address: str, nick: str, name: str, members: Collection[str]) -> Entered:
        """Be in that room, which is as it should be, with these bare JIDs as members. Refused, Lost."""
        created = await self._join(address, nick)
        if created:
            await self._configure(address, name)
        lacking, new = await asyncio.gather(self._lacking(address), self._set_members(address, members, known=created))
        if lacking and not created:
            await self._configure(address, name)
            lacking = await self._lacking(address)
        if lacking:
            if created:
                await self._line.ask("set", muc.destruction(""), to=address)
            raise Refused("its rooms have no archive" if lacking == {_ARCHIVE} else "its rooms are not private")
        return Entered(created, new)

    async def let_in(self, address: str, members: Collection[str]) -> None:
        """These bare JIDs and nobody else; of a room that we need not be in. Refused."""
        await self._set_members(address, members)

    def invite(self, address: str, jids: Collection[str], reason: str) -> None:
        for jid in sorted(jids):
            for invitation in muc.invitations(address, jid, reason):
                self._line.post(invitation)

    async def destroy(self, address: str, reason: str = "") -> bool:
        """Whether it is gone. One that is not ours any more is as good as not there."""
        self._line.leave(address)
        answer = await self._line.ask("set", muc.destruction(reason), to=address)
        return not isinstance(answer, Declined) or answer.condition in {*_LOST, "not-allowed"}

    # ---- within ----------------------------------------------------------------------------------------------

    async def _has_rooms(self, jid: str) -> bool:
        try:
            info = await self._line.ask("get", muc.features_query(), to=jid, timeout_seconds=_LOOK_SECONDS)
        except Unavailable:
            if not self._line.up.is_set():
                raise
            return False
        return not isinstance(info, Declined) and muc.has_rooms(info)

    async def _join(self, address: str, nick: str) -> bool:
        """Whether it was not there before. For a nick that an admin has taken the visitor gets a longer one."""
        answer = await self._line.join(address, nick)
        if isinstance(answer, Declined) and answer.condition == "conflict":
            answer = await self._line.join(address, f"{nick}-{secrets.token_hex(2)}")
        if isinstance(answer, Declined):
            raise _refusal(answer)
        return answer.created

    async def _set_members(self, address: str, wanted: Collection[str], *, known: bool = False) -> set[str]:
        """Who of them is new. `known`: there are none yet."""
        members = set() if known else await self._members(address)
        new, gone = set(wanted) - members, members - set(wanted)
        if new and not known:
            new -= await self._higher(address)
        if new or gone:
            done = await self._line.ask("set", muc.affiliations(sorted(new), removed=sorted(gone)), to=address)
            if isinstance(done, Declined):
                raise _refusal(done)
        return new

    async def _higher(self, address: str) -> set[str]:
        """Whom somebody else has made more than a member, as far as we are told."""
        answers = [await self._line.ask("get", muc.affiliation_query(each), to=address) for each in ("owner", "admin")]
        return {jid for each in answers if not isinstance(each, Declined) for jid in muc.affiliated(each)}

    async def _members(self, address: str) -> set[str]:
        answer = await self._line.ask("get", muc.affiliation_query("member"), to=address)
        if isinstance(answer, Declined):
            raise _refusal(answer)
        return muc.affiliated(answer)

    async def _lacking(self, address: str) -> frozenset[str]:
        info = await self._line.ask("get", muc.features_query(), to=address)
        return muc.NEEDED - (set() if isinstance(info, Declined) else muc.features(info))

    async def _configure(self, address: str, name: str) -> None:
        answer = await self._submit(address, name, self._form) if self._form is not None else None
        if answer is not None and not isinstance(answer, Declined):
            return
        form = await self._line.ask("get", muc.settings_query(), to=address)
        if isinstance(form, Declined):
            raise _refusal(form)
        answer = await self._submit(address, name, form)
        if isinstance(answer, Declined) and muc.offers(form, muc.EJABBERD_ARCHIVE):
            # ejabberd offers the field also where it allows no archive, and then refuses any form that has it.
            form = muc.without(form, muc.EJABBERD_ARCHIVE)
            answer = await self._submit(address, name, form)
        if isinstance(answer, Declined):
            raise _refusal(answer)
        self._form = form

    async def _submit(self, address: str, name: str, form: Element) -> Element | Declined:
        return await self._line.ask("set", muc.settings_form(form, name), to=address)


def _refusal(answer: Declined) -> Refused:
    kind = Lost if answer.condition in _LOST else Refused
    return kind(_WHY.get(answer.condition, "it refuses them"), may_pass=answer.condition in _MAY_PASS)
