"""What admins write to a visitor's contact, or to the desk's, takes effect once.

- Only what comes from the bare JID of a configured admin is looked at. The server vouches for senders (RFC 6120
  §8.1.2.1), and the gate in component.py has turned everyone else away.
- Every line to a visitor's address is for the visitor, but for those that begin with `!` (commands and notes; `!!`
  begins a literal exclamation mark) and what cannot be passed on as it is meant, which is answered with why. The other
  admins did not see it, so they are told.
- To the desk's own address go commands, and answers that say for whom they are. Anything else is for nobody.
- A correction (XEP-0308) or retraction (XEP-0424) of a line that went to the visitor changes what they see. A
  correction of one that did not counts as a new line, and a retraction of one as nothing; a line that is corrected into
  a command is taken back from the visitor.
- The key of a stanza is who sent it, to whom, and its id; there is no archive here that would have a better one. The
  receipt (XEP-0184) follows the commit.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from typing import Final
from xml.etree.ElementTree import Element

from veilsupport import commands
from veilsupport.commands import Answer, Command
from veilsupport.desk import Desk
from veilsupport.errors import AdminError, Duplicate, NotFound
from veilsupport.model import Admin, Conversation, Intake
from veilsupport.xmpp import stanzas
from veilsupport.xmpp.component import Component
from veilsupport.xmpp.contacts import Contacts
from veilsupport.xmpp.direct import CONFLICT, not_for_visitors
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.stanzas import Reading

FOR_NOBODY: Final = (
    "This is the desk itself, so that went to nobody. Each visitor is a contact of their own: please write there, or"
    " begin with @heron-42. Lines with ! are commands; !help lists them."
)


class ContactTalk:
    """Reads the lines to all addresses of ours."""

    def __init__(
        self, desk: Desk, line: Component, outgoing: Outgoing, contacts: Contacts, *, clock: Callable[[], float]
    ) -> None:
        self._desk = desk
        self._line = line
        self._outgoing = outgoing
        self._contacts = contacts
        self._clock = clock
        self._admins = {admin.address.reveal().casefold(): admin for admin in desk.admins}

    async def take(self, message: Element) -> None:
        """One stanza. Raises what the desk does (StoreError)."""
        to = message.get("to", "").partition("/")[0].casefold()
        reading = stanzas.read(message, own=to)
        admin = self._admins.get(reading.sender)
        if admin is None:
            return
        if reading.is_error:
            await self._outgoing.refused(reading.id)
            return
        if reading.receipt_of:
            await self._desk.delivery_arrived(reading.receipt_of, admin)
        if reading.read_up_to:
            await self._desk.delivery_read(reading.read_up_to, admin, apart=True)
        if reading.is_composing and not reading.says_something:
            self._desk.admin_types(admin, to.partition("@")[0])
        if reading.says_something:
            await self._take_words(admin, to, reading)

    async def _take_words(self, admin: Admin, to: str, reading: Reading) -> None:
        intake = _intake(to, reading)
        about = self._desk.conversation_called(to.partition("@")[0])
        try:
            await self._route(admin, to, about, reading, intake)
        except AdminError as error:
            await self._tell(admin, error.message, about, intake)
        except (Duplicate, NotFound):
            pass  # It took effect before, or the conversation is gone.
        if reading.wants_receipt and reading.id:
            receipt = stanzas.receipt(reading.sender, reading.id)
            receipt.set("from", to)
            self._line.post(receipt)

    async def _tell(self, admin: Admin, words: str, about: Conversation | None, intake: Intake) -> None:
        """Where it was written, if that is theirs to see."""
        place = about.id if about and admin in self._desk.admins_of(about.site) else None
        with contextlib.suppress(Duplicate, NotFound):
            await self._desk.tell(admin, words, intake=intake, now=self._clock(), place=place)

    async def _route(self, admin: Admin, to: str, about: Conversation | None, reading: Reading, intake: Intake) -> None:
        if why := not_for_visitors(reading):
            raise AdminError(why)
        alias = about.alias if about else to.partition("@")[0]
        if reading.retracts:
            await self._take_back(admin, _handle(to, admin, reading.retracts), intake)
        elif to == self._line.own:
            await self._to_desk(admin, reading, intake)
        else:
            line = commands.parse_in_room(reading.body, alias)
            await self._to_visitor(admin, to, alias, about, line, reading, intake)

    async def _to_visitor(
        self,
        admin: Admin,
        to: str,
        alias: str,
        about: Conversation | None,
        line: Command | Answer,
        reading: Reading,
        intake: Intake,
    ) -> None:
        now, replaced = self._clock(), self._replaced(to, admin, reading)
        match line:
            case Command():
                if replaced:
                    with contextlib.suppress(Duplicate):  # it was done before, and then the command was cut off
                        await self._take_back(admin, replaced, Intake(f"{intake.key}#before"))
                place = about.id if about else None
                await self._desk.admin_commands(admin, line, intake=intake, now=now, place=place)
            case Answer(body) if replaced:
                await self._desk.admin_corrects(admin, replaced, body, intake=intake, now=now)
            case Answer(body):
                said = await self._desk.admin_says(admin, alias, body, intake=intake, now=now)
                self._contacts.said(said.conversation, said.seq, admin, reading.id)

    async def _to_desk(self, admin: Admin, reading: Reading, intake: Intake) -> None:
        line, now = commands.parse(reading.body), self._clock()
        replaced = self._replaced(self._line.own, admin, reading)
        alias = self._desk.alias_of_handle(replaced) if replaced else None
        match line:
            case Answer(body) if alias and line.alias in (None, alias):
                await self._desk.admin_corrects(admin, replaced, body, intake=intake, now=now)
            case _ if alias:
                raise AdminError(CONFLICT)
            case Command():
                await self._desk.admin_commands(admin, line, intake=intake, now=now)
            case Answer(body, str(named)) if body:
                await self._desk.admin_says(admin, named, body, intake=intake, now=now)
            case _:
                raise AdminError(FOR_NOBODY)

    def _replaced(self, to: str, admin: Admin, reading: Reading) -> str:
        """The handle of the line that this one corrects; "" when it corrects none that went to a visitor."""
        handle = _handle(to, admin, reading.replaces)
        return handle if reading.replaces and self._desk.alias_of_handle(handle) else ""

    async def _take_back(self, admin: Admin, handle: str, intake: Intake) -> None:
        """A line of theirs. One that never went to the visitor needs no taking back."""
        if self._desk.alias_of_handle(handle) is None:
            await self._desk.skip(intake, now=self._clock())
        else:
            await self._desk.admin_retracts(admin, handle, intake=intake, now=self._clock())


def _intake(to: str, reading: Reading) -> Intake:
    """A stanza without an id comes once: nothing here sends one again."""
    key = f"{to}#{reading.sender}#{reading.id or secrets.token_hex(16)}"
    return Intake(key, handles=(key,) if reading.id else ())


def _handle(to: str, admin: Admin, id_: str) -> str:
    """By what that admin's line to that address is known; nobody can name another's."""
    return f"{to}#{admin.address.reveal().casefold()}#{id_}"
