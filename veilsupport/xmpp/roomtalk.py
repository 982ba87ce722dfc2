"""What is said in a room takes effect once.

- Whose line it is, is decided by the bare JID that the room tells, never by the nick. Only the admins of the
  configuration have any effect; whoever else is in the room is not heard. A line of somebody whose coming the room did
  not tell is taken from its archive, which knows.
- In a visitor's room every line is for the visitor, but for those that begin with `!` (commands and notes; `!!`
  begins a literal exclamation mark) and what cannot be passed on as it is meant, which is answered with why.
- In the staff room only `!` lines mean anything; else the admins talk among themselves.
- A correction (XEP-0308) or retraction (XEP-0424) of a line that went to the visitor changes what they see. A
  correction of one that did not (a mistyped command, say) counts as a new line, and a retraction of one as nothing. A
  line that is corrected into a command or a note is taken back from the visitor.
- A private message to the visitor's name (XEP-0045 §7.5) reaches nobody, and is answered in the admin's own chat.
- The room's own reflection of what we said there tells that it has it, and under which id.
- The key of a stanza is the id that this very room's archive gave it; where it stands in the archive is kept with
  its effect.
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
from veilsupport.model import Admin, Intake
from veilsupport.xmpp import stanzas
from veilsupport.xmpp.direct import check_command, not_for_visitors
from veilsupport.xmpp.omemo import Undecryptable
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.place import Place
from veilsupport.xmpp.sealing import Sealing
from veilsupport.xmpp.stanzas import Reading

PRIVATE: Final = "A private message inside a room reaches nobody. Please write in the room itself."


class RoomTalk:
    """Reads the lines of rooms."""

    def __init__(
        self, desk: Desk, outgoing: Outgoing, sealing: Sealing, *, own: str, clock: Callable[[], float]
    ) -> None:
        self._desk = desk
        self._outgoing = outgoing
        self._sealing = sealing
        self._own = own.casefold()
        self._clock = clock
        self._admins = {admin.address.reveal().casefold(): admin for admin in desk.admins}

    async def take(self, place: Place, message: Element, speaker: str, *, archived_as: str = "") -> None:
        """One line. `archived_as`: its id, when it comes from the archive itself. Raises what the desk does."""
        if speaker != self._own and speaker not in self._admins and message.get("type") != "error":
            return
        reading = stanzas.read(message, own=place.address, sender=speaker)
        archive_id = archived_as or reading.archive_id
        if reading.is_error:
            await self._outgoing.refused(reading.id)
        elif speaker == self._own:
            await self._outgoing.reflected({reading.id: archive_id})
        elif admin := self._admins.get(speaker):
            if stanzas.is_private(message):
                await self._answer_privately(place, admin, reading)
            else:
                await self._take(place, admin, message, reading, archive_id)

    async def _take(self, place: Place, admin: Admin, message: Element, reading: Reading, archive_id: str) -> None:
        if reading.read_up_to and place.conversation:
            await self._desk.delivery_read_in_room(place.conversation, reading.read_up_to)
        if reading.is_composing and not reading.says_something and place.conversation:
            self._desk.admin_types(admin, place.alias)
        if not self._sealing.concerns(message, reading):
            return
        intake = _intake(place, reading, archive_id)
        try:
            async with self._sealing.opened(message, reading) as opened:
                await self._take_words(place, admin, opened, intake)
        except Undecryptable as error:
            await self._tell(place, error.message, intake)
        except (Duplicate, NotFound):
            pass  # It took effect before, or the conversation is gone and its room with it.

    async def _take_words(self, place: Place, admin: Admin, reading: Reading, intake: Intake) -> None:
        try:
            if not reading.says_something:
                await self._desk.skip(intake, now=self._clock())
            elif place.conversation is None:
                await self._in_staff_room(admin, reading, intake)
            else:
                await self._in_visitors_room(place, place.conversation, admin, reading, intake)
        except AdminError as error:
            await self._tell(place, error.message, intake)
        if reading.body and not commands.says_away(reading.body):
            await self._desk.admin_is_back(admin)

    async def _answer_privately(self, place: Place, admin: Admin, reading: Reading) -> None:
        """No archive of a room has it."""
        intake = Intake(f"{place.address}#private#{reading.sender}#{reading.id}")
        try:
            await self._desk.tell(admin, PRIVATE, intake=intake, now=self._clock())
        except Duplicate:
            pass

    async def _tell(self, place: Place, words: str, intake: Intake) -> None:
        try:
            await self._desk.tell_room(place.conversation, words, intake=intake, now=self._clock())
        except (Duplicate, NotFound):
            pass

    async def _in_staff_room(self, admin: Admin, reading: Reading, intake: Intake) -> None:
        command = commands.parse_in_staff_room(reading.body)
        if command is None:
            await self._desk.skip(intake, now=self._clock())
        else:
            check_command(command, reading)
            await self._desk.admin_commands(admin, command, intake=intake, now=self._clock(), staff=True)

    async def _in_visitors_room(
        self, place: Place, conversation: bytes, admin: Admin, reading: Reading, intake: Intake
    ) -> None:
        now = self._clock()
        if why := not_for_visitors(reading):
            raise AdminError(why)
        if reading.retracts:
            await self._take_back(place, admin, reading.retracts, intake)
            return
        replaced = _handle(place, admin, reading.replaces) if reading.replaces else ""
        is_known = bool(replaced) and self._desk.alias_of_handle(replaced) is not None
        match commands.parse_in_room(reading.body, place.alias):
            case Command() as command:
                check_command(command, reading)
                if is_known:
                    with contextlib.suppress(Duplicate):  # it was done before, and then the command was cut off
                        await self._take_back(place, admin, reading.replaces, Intake(f"{intake.key}#before"))
                await self._desk.admin_commands(admin, command, intake=intake, now=now, place=conversation)
            case Answer(body) if is_known:
                await self._desk.admin_corrects(admin, replaced, body, intake=intake, now=now, in_room=True)
            case Answer(body):
                said = await self._desk.admin_says(admin, place.alias, body, intake=intake, now=now, in_room=True)
                place.answers.append((said.seq, intake.position or reading.id))

    async def _take_back(self, place: Place, admin: Admin, line: str, intake: Intake) -> None:
        """A line of theirs, by one of its ids. One that never went to the visitor needs no taking back."""
        now, handle = self._clock(), _handle(place, admin, line)
        if self._desk.alias_of_handle(handle) is None:
            await self._desk.skip(intake, now=now)
        else:
            await self._desk.admin_retracts(admin, handle, intake=intake, now=now, in_room=True)


def _intake(place: Place, reading: Reading, archive_id: str) -> Intake:
    handles = [f"{place.address}#{reading.sender}#{id_}" for id_ in (reading.id, archive_id) if id_]
    if archive_id:
        return Intake(f"{place.address}#{archive_id}", place.address, archive_id, tuple(handles))
    return Intake(f"{place.address}#{reading.sender}#{reading.id or secrets.token_hex(8)}", handles=tuple(handles))


def _handle(place: Place, admin: Admin, id_: str) -> str:
    """By what that admin's line in that room is known; nobody can name another's."""
    return f"{place.address}#{admin.address.reveal().casefold()}#{id_}"
