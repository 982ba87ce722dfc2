"""What comes in takes effect once, in its order, and is confirmed only when it is on disk.

The rules:

1. All that the connection tells goes through one bounded queue and one worker; rooms.py goes on from there for each
   room. What does not fit ends the session: the next one is fresh, and the archive brings back what was dropped.
2. A fresh session is set up *in* that queue, so live stanzas wait until the archive is read: taken before, they would
   move the position past what is still unread. A set-up that was cut half-way is done again, also after a
   resumption, and until it is whole the live stanzas go on waiting.
3. There is one position in the archive, moved in the same transaction as the effect. The first start begins at the
   archive's end. An id that the archive no longer knows falls back to the time of the last one.
4. A stanza's key is the stanza-id that our own server gave it, never another's; where there is no archive, sender and
   id. What was taken before is taken for done (Duplicate), and confirmed again.
5. The receipt (XEP-0184) and the answer to the server's `<r/>` follow the commit. While a session is set up, `<r/>` is
   answered at once: what waits then is in the archive.
6. `<delay/>` does not mean history: Prosody stamps what waited in a hibernated session. It is not looked at.
7. ejabberd may send unacknowledged stanzas again in another order; each still takes effect once. The archive's
   order wins in a catch-up.
8. What is end-to-end encrypted is opened, put on disk, and only then counts as opened (omemo.py). When keys are
   needed for it and do not come, the session ends, and everything from this stanza on is taken in the next one.

Only the bare JIDs of configured admins have any effect here; the gate in line.py has turned everyone else away.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from typing import Final
from xml.etree.ElementTree import Element

from veilsupport.desk import Desk
from veilsupport.errors import Duplicate, NotFound, StoreError, Unavailable
from veilsupport.model import Admin, Intake
from veilsupport.xmpp import signals, stanzas
from veilsupport.xmpp.archive import Archive, Archived
from veilsupport.xmpp.direct import Direct
from veilsupport.xmpp.line import Declined, Line
from veilsupport.xmpp.omemo import Undecryptable
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.rooms import Rooms, sender_of
from veilsupport.xmpp.sealing import Sealing
from veilsupport.xmpp.signals import Asked, Expelled, Heard, Lost, Resumed, Signal, Started
from veilsupport.xmpp.stanzas import Reading
from veilsupport.xmpp.steps import Steps, gathered

QUEUE_MAX: Final = 5000
_OVERLAP_SECONDS: Final = 300.0  # how far before the last known time a catch-up by time begins
_DISK_PAUSE_SECONDS: Final = 5.0


class Incoming:
    """The queue and its worker. `on_ready` is called when a session is up and reconciled."""

    def __init__(
        self,
        desk: Desk,
        line: Line,
        outgoing: Outgoing,
        direct: Direct,
        rooms: Rooms,
        sealing: Sealing,
        *,
        set_up_seconds: float,
        on_ready: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.archive = Archive(line)
        self._desk = desk
        self._line = line
        self._outgoing = outgoing
        self._direct = direct
        self._rooms = rooms
        self._sealing = sealing
        self._set_up_seconds = set_up_seconds
        self._on_ready = on_ready
        self._clock = clock
        self._admins = {admin.address.reveal().casefold(): admin for admin in desk.admins}
        self._queue: deque[Signal] = deque()
        self._held: deque[Element] = deque()  # live stanzas of a session that is not set up
        self._more = asyncio.Event()
        self._is_set_up = False
        self._is_setting_up = False

    def hear(self, signal: Signal) -> None:
        """Called by the connection, in order; never blocks."""
        if isinstance(signal, Asked) and self._is_setting_up:
            self._line.acknowledge(signal)
            return
        if isinstance(signal, Heard) and len(self._queue) + len(self._held) >= QUEUE_MAX:
            self._held.clear()
            self._line.cut(signals.FLOODED)
            self._line.forget_session()
            return
        self._queue.append(signal)
        self._more.set()

    async def run(self) -> None:
        while True:
            await self._more.wait()
            while self._queue:
                await self._stubbornly(self._next())
            self._more.clear()

    def _next(self) -> Signal | Steps:
        steps = gathered(self._queue, reflection=self._rooms.reflection, receipt=self._receipt)
        return steps or self._queue.popleft()

    def _receipt(self, message: Element) -> tuple[str, Admin] | None:
        """Which stanza is on whose device, when it says nothing else; while a session is set up, it waits as all do."""
        admin = self._admins.get(sender_of(message)) if self._is_set_up else None
        stanza_id = stanzas.receipt_alone(message) if admin else ""
        return (stanza_id, admin) if admin and stanza_id else None

    async def _stubbornly(self, signal: Signal | Steps) -> None:
        """A disk that refuses may recover; until then nothing is confirmed and nothing is skipped."""
        while True:
            try:
                return await self._handle(signal)
            except StoreError:
                await asyncio.sleep(_DISK_PAUSE_SECONDS)

    async def _handle(self, signal: Signal | Steps) -> None:
        match signal:
            case Started(connection):
                self._is_set_up = False
                await self._begin(connection)
            case Resumed(connection, kept) if self._is_set_up:
                await self._outgoing.resumed(kept)
                self._rooms.resumed()
                self._be_ready(connection)
            case Resumed(connection):
                await self._begin(connection)
            case Steps(acknowledged, arrived, reflected, asked):
                await self._outgoing.came(acknowledged=acknowledged, reflected=reflected, arrived=arrived)
                for each in asked:
                    self._line.acknowledge(each)
            case Heard(message, speaker) if self._rooms.knows(sender_of(message)):
                await self._rooms.hear(message, speaker)
            case Expelled(room):
                self._rooms.expelled(room)
            case Heard(message) if self._is_set_up:
                await self._hear_or_hold(message)
            case Heard(message):
                self._held.append(message)
            case Lost():
                pass  # What it means has been done when it was heard.

    # ---- a session begins ------------------------------------------------------------------------------------

    async def _begin(self, connection: int) -> None:
        if connection != self._line.connection or not self._line.up.is_set():
            return  # That connection is gone already; a later one is behind in the queue.
        self._is_setting_up = True
        try:
            async with asyncio.timeout(self._set_up_seconds):
                await self._set_up()
            self._is_setting_up = False
            while self._held:
                await self._hear_live(self._held[0])
                if self._held:  # else a flood has swept it away meanwhile, and the archive has it
                    self._held.popleft()
        except (Unavailable, TimeoutError):
            self._line.cut(signals.NO_SET_UP)
            return
        finally:
            self._is_setting_up = False
        self._is_set_up = True
        self._be_ready(connection)

    def _be_ready(self, connection: int) -> None:
        if connection == self._line.connection and self._line.up.is_set():
            self._outgoing.ready.set()
            self._desk.wake.set()
            self._on_ready()

    async def _set_up(self) -> None:
        await self._line.ask("set", Element("{urn:xmpp:carbons:2}enable"))  # a server without them says no
        await self._befriend_admins()
        await self._sealing.begin()
        self._line.send_presence()
        await self._outgoing.reconcile(self.archive)
        await self._catch_up()
        await self._rooms.begin()
        await self._sealing.caught_up()

    async def _befriend_admins(self) -> None:
        """Ask every admin whom we do not see yet for leave; theirs to us is given when they ask (transport.py)."""
        roster = await self._line.ask("get", Element("{jabber:iq:roster}query"))
        if isinstance(roster, Declined):
            return
        seen = {
            item.get("jid", "").casefold()
            for item in roster.iterfind("{jabber:iq:roster}query/{jabber:iq:roster}item")
            if item.get("subscription") in ("to", "both")
        }
        for admin in self._admins.keys() - seen:
            self._line.send_presence(pto=admin, ptype="subscribe")

    # ---- the archive -----------------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """Rules 3 and 4: all that came while we were away."""
        known = self._desk.position(self._line.own)
        if known is None:
            newest = await self.archive.newest()
            if self.archive.exists:
                await self._desk.move_position(self._line.own, newest, now=self._clock())
            return
        position, at = known
        try:
            await self._read_on(after=position)
        except NotFound:
            await self._read_on(since=at - _OVERLAP_SECONDS)

    async def _read_on(self, *, after: str = "", since: float | None = None) -> None:
        async for page in self.archive.pages(after=after, since=since):
            for archived in page:
                await self._take_archived(archived)
            if page:
                await self._desk.move_position(self._line.own, page[-1].id, now=self._clock())

    async def _take_archived(self, archived: Archived) -> None:
        await self._take(archived.message, archived.id)

    # ---- one stanza ------------------------------------------------------------------------------------------

    async def _hear_or_hold(self, message: Element) -> None:
        """Rule 8."""
        try:
            await self._hear_live(message)
        except Unavailable:
            self._is_set_up = False
            self._held.append(message)
            self._line.forget_session()
            self._line.cut(signals.NO_SET_UP)

    async def _hear_live(self, message: Element) -> None:
        """Unavailable (rule 8) leaves it to the next session."""
        if await self._sealing.hear(message):
            return
        copy = stanzas.carbon(message, own=self._line.own)
        if copy is None:
            await self._take(message, self._archive_id(message))
            return
        sent_by_us, inside = copy
        if sent_by_us or inside is None:
            return
        archive_id = self._archive_id(inside)
        if self.archive.exists and not archive_id:
            await self._catch_up()  # the copy does not say under which key it is known there
        else:
            await self._take(inside, archive_id)

    def _archive_id(self, message: Element) -> str:
        return stanzas.read(message, own=self._line.own).archive_id if self.archive.exists else ""

    async def _take(self, message: Element, archive_id: str) -> None:
        admin = self._admins.get(sender_of(message))
        if admin is None:
            return  # The archive holds strangers' stanzas, too.
        reading = stanzas.read(message, own=self._line.own)
        if reading.is_error:
            await self._outgoing.refused(reading.id)
            return
        if reading.receipt_of:
            await self._desk.delivery_arrived(reading.receipt_of, admin)
        if reading.read_up_to:
            await self._desk.delivery_read(reading.read_up_to, admin)
        if reading.is_composing and not reading.says_something and (alias := self._direct.meant_by(admin)):
            self._desk.admin_types(admin, alias)
        if self._sealing.concerns(message, reading):
            await self._take_words(admin, message, reading, archive_id)

    async def _take_words(self, admin: Admin, message: Element, reading: Reading, archive_id: str) -> None:
        intake = self._intake(message, reading, archive_id)
        try:
            async with self._sealing.opened(message, reading) as opened:
                if opened.says_something:
                    await self._direct.take(admin, opened, intake)
                else:
                    await self._desk.skip(intake, now=self._clock())
        except Undecryptable as error:
            await self._tell(admin, error.message, intake)
        except Duplicate:
            pass  # It took effect before; only the receipt may have been lost.
        if reading.wants_receipt and reading.id and self._line.up.is_set():
            self._line.post(stanzas.receipt(reading.sender, reading.id))

    async def _tell(self, admin: Admin, words: str, intake: Intake) -> None:
        try:
            await self._desk.tell(admin, words, intake=intake, now=self._clock())
        except Duplicate:
            pass

    def _intake(self, message: Element, reading: Reading, archive_id: str) -> Intake:
        """Rule 4; what has no id of any kind cannot come twice as the same."""
        own = self._line.own
        handles = tuple(f"{reading.sender}#{id_}" for id_ in (reading.id, archive_id) if id_)
        if archive_id:
            return Intake(f"{own}#{archive_id}", own, archive_id, handles)
        return Intake(f"{message.get('from')}#{reading.id or secrets.token_hex(8)}", handles=handles)
