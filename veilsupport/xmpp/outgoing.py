"""What is due goes out: at least once on our side, with one stanza id over every attempt, and so once on the other.

The rules that make it so (each was found by breaking it):

1. The stanza id is the origin-id is the delivery's id. `delivery_sent` is on disk before the stanza leaves.
2. Stanzas are given to slixmpp only while the line is ready: connected, and reconciled with what the last connection
   left open. What is sent in between would overtake the unacknowledged, or be lost without a trace. The same holds
   for each room by itself (rooms.py).
3. Behind each batch goes one `<r/>` through the same queue. For an admin's chat, XEP-0198's answer marks "handed over",
   XEP-0184's receipt "on a device"; an error makes the delivery due again, later. For a room only its own reflection
   counts: its service may still refuse what the server has taken.
4. When a session is resumed, slixmpp sends again what it remembers as unacknowledged; what was marked sent and is not
   among it (it sat in the send queue at the cut) is due again, but for what a room has yet to reflect.
5. When a fresh session starts, the archive (our account's, or the room's) tells which of those marked sent have
   arrived; the others are due again, in their order. Without an archive all are: doubled at worst, never lost.
6. Only so much is under way as the server takes in a moment (pacing.py), less while a room is being made, and the
   oldest delivery of every conversation goes before the second of any: nobody waits behind another's flood.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol
from xml.etree.ElementTree import Element

from veilsupport.desk import Desk, Unacknowledged
from veilsupport.errors import StoreError, Unavailable
from veilsupport.model import Admin, Delivery, DeliveryKind
from veilsupport.xmpp import signals, stanzas
from veilsupport.xmpp.archive import Archive
from veilsupport.xmpp.omemo_terms import ENVELOPE
from veilsupport.xmpp.pacing import Window
from veilsupport.xmpp.signals import Trouble

_BATCH: Final = 50
_LOOK_AGAIN_SECONDS: Final = 15.0  # what was refused becomes due by the clock, and nothing wakes us for it
_DISK_PAUSE_SECONDS: Final = 5.0
_SKEW_SECONDS: Final = 120.0  # the server's clock and ours
_WAITING_SECONDS: Final = 300.0  # after which what may not leave is tried again, although no keys have come
_REFLECTED_SECONDS: Final = 60.0  # a room that says nothing for so long has lost us


class Way(Protocol):
    """What the pump needs of a connection."""

    connection: int

    @property
    def acknowledges(self) -> bool: ...
    def post(self, message: Element, /) -> None: ...
    def ask_for_acknowledgement(self) -> None: ...
    async def settled(self) -> None: ...
    def cut(self, trouble: Trouble) -> None: ...


class Rooms(Protocol):
    """What the pump has to know of the rooms; None stands for the staff room."""

    def address(self, conversation: bytes | None) -> str | None:
        """Where stanzas for it may go now; None, and it is being seen to, when they may not."""

    def not_ready(self) -> Collection[bytes]:
        """Those that are being seen to."""

    def is_bringing_up(self) -> bool:
        """Whether questions of its are open, which what we send should not hold up."""

    def lost_us(self, conversation: bytes | None) -> None:
        """It does not answer to what we say there."""

    def destroy(self, stanza_id: str, address: str) -> None:
        """Have it destroyed; `Outgoing.destroyed` follows, unless the connection is lost."""


class Outgoing:
    """The pump. `ready` is set while stanzas may leave; `spoke` is told whose words went to which admin.

    `on_sent` is told of each delivery that leaves, every attempt: its kind, and whether it was encrypted.
    """

    def __init__(
        self, desk: Desk, line: Way, *, spoke: Callable[[Admin, str], None], clock: Callable[[], float]
    ) -> None:
        self.ready = asyncio.Event()
        self.rooms: Rooms | None = None
        self.write: Callable[[Delivery, str], Element] = _written
        self.seal: Callable[[Element, Delivery], Awaitable[Element | None]] = _as_it_is
        self.on_sent: Callable[[DeliveryKind, bool], None] = lambda kind, encrypted: None
        self._desk = desk
        self._line = line
        self._spoke = spoke
        self._clock = clock
        self._flying = Window()  # given to slixmpp, answered by nobody yet
        self._in_rooms: dict[str, bytes | None] = {}  # those of them that a room has to reflect
        self._taken: set[str] = set()  # those of these that the server has acknowledged
        self._waiting: dict[str, tuple[Admin | None, bytes | None]] = {}  # rule 7: to whom, in which conversation
        self._try_again_at = 0.0  # the loop's time
        self._lock = asyncio.Lock()  # held from delivery_sent to the hand-over, and while a session is reconciled

    async def run(self) -> None:
        while True:
            await self.ready.wait()
            try:
                if not await self._send_batch():
                    await self._rest()
            except StoreError:
                await asyncio.sleep(_DISK_PAUSE_SECONDS)  # nothing leaves that is not marked on disk

    async def _rest(self) -> None:
        """Until there may be something to send again."""
        self._look_for_lost_rooms()
        try:
            async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                await self._desk.wake.wait()
        except TimeoutError:
            pass

    def try_again(self) -> None:
        """What waits may be allowed to leave now."""
        self._try_again_at = 0.0
        self._desk.wake.set()

    async def _send_batch(self) -> bool:
        """Whether there may be more to send at once."""
        async with self._lock:
            if not self.ready.is_set():
                return True
            connection = self._line.connection
            self._desk.wake.clear()
            await self._wait_no_longer()
            batch = self._sendable(self._due())
            if not batch:
                return False
            still_due = await self._desk.delivery_sent([each.stanza_id for each, _ in batch], now=self._clock())
            if not self.ready.is_set() or self._line.connection != connection:
                return True  # Marked but not sent: rule 4 or 5 makes them due again.
            batch = [each for each in batch if each[0].stanza_id in still_due]
            await self._send_all(batch)
            self._line.ask_for_acknowledgement()
        if not self._line.acknowledges:
            await self._acknowledge_by_ping([each.stanza_id for each, _ in batch if each.admin])
        return True

    def _due(self) -> list[Delivery]:
        without = self.rooms.not_ready() if self.rooms else ()
        room = min(_BATCH, self._flying.room_beside(is_busy=self.rooms is not None and self.rooms.is_bringing_up()))
        if room <= 0 or not self._desk.admins:
            return []
        return _in_turns(self._desk.due(now=self._clock(), limit=room, without=without))

    def _sendable(self, due: list[Delivery]) -> list[tuple[Delivery, str]]:
        """Those that have somewhere to go at this moment, and where."""
        found = ((each, self._address(each)) for each in due)
        return [(each, address) for each, address in found if address is not None]

    def _address(self, delivery: Delivery) -> str | None:
        if delivery.admin:
            return delivery.admin.address.reveal()
        if delivery.kind is DeliveryKind.DESTROY:
            return delivery.body if self.rooms else None
        return self.rooms.address(delivery.conversation) if self.rooms else None

    async def _send_all(self, batch: Sequence[tuple[Delivery, str]]) -> None:
        """StoreError: what was not sent by then waits to be due again."""
        for number, (delivery, to) in enumerate(batch):
            try:
                await self._send(delivery, to)
            except StoreError:
                self._waiting |= {each.stanza_id: (each.admin, each.conversation) for each, _ in batch[number:]}
                self.try_again()
                raise

    async def _wait_no_longer(self) -> None:
        """Rule 7."""
        now = self._now()
        is_time = now >= self._try_again_at
        if is_time or not self._waiting:
            self._try_again_at = now + _WAITING_SECONDS
        if is_time and self._waiting:
            await self._desk.deliveries_lost(list(self._waiting))
            self._waiting.clear()

    async def _send(self, delivery: Delivery, to: str) -> None:
        if delivery.kind is DeliveryKind.DESTROY:
            assert self.rooms is not None
            self.rooms.destroy(delivery.stanza_id, to)
            return
        self._waiting.pop(delivery.stanza_id, None)
        place = (delivery.admin, delivery.conversation)
        if delivery.conversation is not None and place in self._waiting.values():
            self._waiting[delivery.stanza_id] = place
            return
        try:
            message = await self.seal(self.write(delivery, to), delivery)
        except Unavailable:
            return  # Marked but not sent, as above.
        if message is None:
            self._waiting[delivery.stanza_id] = place
            return
        if not self.ready.is_set():
            return  # Marked but not sent, as above.
        self._line.post(message)
        self.on_sent(delivery.kind, message.find(ENVELOPE) is not None)
        self._flying.sent(delivery.stanza_id, at=self._now())
        if not delivery.admin:
            self._in_rooms[delivery.stanza_id] = delivery.conversation
        if delivery.kind in (DeliveryKind.MESSAGE, DeliveryKind.NEWS):
            for admin in [delivery.admin] if delivery.admin else self._desk.admins:
                self._spoke(admin, delivery.alias)

    async def _acknowledge_by_ping(self, stanza_ids: Collection[str]) -> None:
        """Without XEP-0198."""
        try:
            await self._line.settled()
        except Unavailable:
            self._line.cut(signals.SILENT)  # the next session reconciles
            return
        while True:
            try:
                await self.acknowledged(stanza_ids)
                return
            except StoreError:
                await asyncio.sleep(_DISK_PAUSE_SECONDS)

    def _look_for_lost_rooms(self) -> None:
        if self.rooms is None or not self.ready.is_set():
            return
        late = self._flying.older_than(self._now() - _REFLECTED_SECONDS)
        for conversation in {self._in_rooms[each] for each in late if each in self._in_rooms}:
            self.rooms.lost_us(conversation)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # ---- what the intake reports -----------------------------------------------------------------------------

    async def acknowledged(self, stanza_ids: Collection[str]) -> None:
        """Not those that came back with an error before: the server had them, and would not keep them."""
        await self.came(acknowledged=stanza_ids)

    async def reflected(self, archived_as: Mapping[str, str]) -> None:
        """Rooms have passed them on, and keep them under these ids."""
        await self.came(reflected=archived_as)

    async def came(
        self,
        *,
        acknowledged: Collection[str] = (),
        reflected: Mapping[str, str] = MappingProxyType({}),
        arrived: Collection[tuple[str, Admin]] = (),
    ) -> None:
        """Both of these, and what the admins' devices have, in one transaction.

        StoreError: the same is to be reported again.
        """
        now = self._now()
        self._taken.update(each for each in acknowledged if each in self._in_rooms and each not in reflected)
        taken = [each for each in acknowledged if each in self._flying and each not in self._in_rooms]
        self._landed(reflected, at=now)
        if taken or reflected or arrived:
            await self._desk.deliveries_came(acknowledged=taken, in_rooms=reflected, arrived=arrived)
        self._landed(taken, at=now)  # not before, because what is not under way is not taken
        if taken or reflected:
            self._desk.wake.set()  # there is room in the window

    async def destroyed(self, stanza_id: str, *, gone: bool) -> None:
        """A burned conversation's room: it is gone, or the server would not have it so."""
        if gone:
            await self._desk.delivery_acknowledged([stanza_id])
        else:
            await self._desk.delivery_refused(stanza_id, now=self._clock())

    def forget_room(self, conversation: bytes | None) -> None:
        """We are not there any more, so nothing of it will be reflected: make room for others."""
        for stanza_id in [each for each, place in self._in_rooms.items() if place == conversation]:
            self._drop(stanza_id)
        self._desk.wake.set()

    async def refused(self, stanza_id: str) -> None:
        """It came back with an error."""
        self._drop(stanza_id)
        await self._desk.delivery_refused(stanza_id, now=self._clock())

    async def resumed(self, kept: Collection[str]) -> None:
        """Rule 4."""
        async with self._lock:
            kept = self._taken.union(kept)
            for each in self._flying:
                if each not in kept:
                    self._drop(each)
            open_ones = [each.stanza_id for each in self._desk.unacknowledged()]
            await self._desk.deliveries_lost([each for each in open_ones if each not in kept])

    async def reconcile(self, archive: Archive | None) -> None:
        """Rule 5, for the admins' chats; None: there is no archive."""
        async with self._lock:
            self._flying.clear()
            self._in_rooms.clear()
            self._taken.clear()
            open_ones = [each for each in self._desk.unacknowledged() if not each.to_room]
            arrived = await self._found(open_ones, archive)
            await self._desk.delivery_acknowledged(list(arrived))
            await self._desk.deliveries_lost([each.stanza_id for each in open_ones])

    async def reconcile_room(self, conversation: bytes | None, archive: Archive | None) -> None:
        """Rule 5, for one room; None: the staff room."""
        everything = self._desk.unacknowledged()
        open_ones = [each for each in everything if each.to_room and each.conversation == conversation]
        found = await self._found(open_ones, archive)  # others go on meanwhile; to this room nothing leaves yet
        async with self._lock:
            for each in open_ones:
                self._drop(each.stanza_id)
            await self._desk.deliveries_came(in_rooms=found)
            await self._desk.deliveries_lost([each.stanza_id for each in open_ones])

    @staticmethod
    async def _found(open_ones: list[Unacknowledged], archive: Archive | None) -> dict[str, str]:
        """Stanza id and archive id of those of them that the archive has."""
        if archive is None or not open_ones:
            return {}
        ids = {each.stanza_id for each in open_ones}
        since = min(each.sent_at for each in open_ones) - _SKEW_SECONDS
        found: dict[str, str] = {}
        async for page in archive.pages(since=since):
            found |= {stanza_id: each.id for each in page if (stanza_id := each.message.get("id", "")) in ids}
        return found

    def _drop(self, stanza_id: str) -> None:
        self._flying.drop(stanza_id)
        self._in_rooms.pop(stanza_id, None)
        self._taken.discard(stanza_id)

    def _landed(self, stanza_ids: Collection[str], *, at: float) -> None:
        for stanza_id in stanza_ids:
            self._flying.arrived(stanza_id, at=at)
            self._drop(stanza_id)


def _written(delivery: Delivery, to: str) -> Element:
    return stanzas.write(delivery, to) if delivery.admin else stanzas.write_to_room(delivery, to)


def _in_turns(due: list[Delivery]) -> list[Delivery]:
    """The first of every conversation, then the second of each: what is sent first arrives first."""
    seen: Counter[bytes | None] = Counter()
    turns = []
    for each in due:
        seen[each.conversation] += 1
        turns.append((seen[each.conversation], each))
    return [each for _, each in sorted(turns, key=lambda turn: turn[0])]


async def _as_it_is(message: Element, delivery: Delivery) -> Element | None:
    return message
