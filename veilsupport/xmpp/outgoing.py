"""What is due goes out: at least once on our side, with one stanza id over every attempt, and so once on the other.

The rules that make it so (each was found by breaking it):

1. The stanza id is the origin-id is the delivery's id. `delivery_sent` is on disk before the stanza leaves.
2. Stanzas are given to slixmpp only while the line is ready: connected, and reconciled with what the last connection
   left open. What is sent in between would overtake the unacknowledged, or be lost without a trace.
3. Behind each batch goes one `<r/>` through the same queue. XEP-0198's answer marks "handed over", XEP-0184's receipt
   "on a device"; an error makes the delivery due again, later.
4. When a session is resumed, slixmpp sends again what it remembers as unacknowledged; what was marked sent and is not
   among it (it sat in the send queue at the cut) is due again.
5. When a fresh session starts, the archive tells which of those marked sent have arrived; the others are due again,
   in their order. Without an archive all are: doubled at worst, never lost.
6. At most a window of stanzas is unacknowledged, so that a slow server is not flooded and a cut repeats little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final
from xml.etree.ElementTree import Element

from veilsupport.desk import Desk
from veilsupport.errors import StoreError, Unavailable
from veilsupport.model import Admin, Delivery, DeliveryKind
from veilsupport.xmpp import stanzas
from veilsupport.xmpp.archive import Archive
from veilsupport.xmpp.line import Line

_BATCH: Final = 50
_WINDOW: Final = 100
_LOOK_AGAIN_SECONDS: Final = 15.0  # what was refused becomes due by the clock, and nothing wakes us for it
_DISK_PAUSE_SECONDS: Final = 5.0
_SKEW_SECONDS: Final = 120.0  # the server's clock and ours


class Outgoing:
    """The pump. `ready` is set while stanzas may leave; `spoke` is told whose words went to which admin."""

    def __init__(
        self, desk: Desk, line: Line, *, spoke: Callable[[Admin, str], None], clock: Callable[[], float]
    ) -> None:
        self.ready = asyncio.Event()
        self._desk = desk
        self._line = line
        self._spoke = spoke
        self._clock = clock
        self._flying: set[str] = set()  # given to slixmpp, acknowledged by nobody yet
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
        try:
            async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                await self._desk.wake.wait()
        except TimeoutError:
            pass

    async def _send_batch(self) -> bool:
        """Whether there may be more to send at once."""
        async with self._lock:
            if not self.ready.is_set():
                return True
            connection = self._line.connection
            self._desk.wake.clear()
            batch = self._due()
            if not batch:
                return False
            still_due = await self._desk.delivery_sent([each.stanza_id for each in batch], now=self._clock())
            if not self.ready.is_set() or self._line.connection != connection:
                return True  # Marked but not sent: rule 4 or 5 makes them due again.
            batch = [each for each in batch if each.stanza_id in still_due]
            for delivery in batch:
                self._send(delivery)
            self._line.ask_for_acknowledgement()
        if not self._line.acknowledges:
            await self._acknowledge_by_ping([each.stanza_id for each in batch])
        return True

    def _due(self) -> list[Delivery]:
        room = min(_BATCH, _WINDOW - len(self._flying))
        if room <= 0 or not self._desk.admins:
            return []
        return self._desk.due(now=self._clock(), limit=room)

    def _send(self, delivery: Delivery) -> None:
        self._line.post(stanzas.write(delivery))
        self._flying.add(delivery.stanza_id)
        if delivery.kind is DeliveryKind.MESSAGE:
            self._spoke(delivery.admin, delivery.alias)

    async def _acknowledge_by_ping(self, stanza_ids: Collection[str]) -> None:
        """Without XEP-0198: a server works in order, so its answer to a later question says that it has the earlier."""
        try:
            await self._line.ask("get", Element("{urn:xmpp:ping}ping"))
            await self.acknowledged(stanza_ids)
        except Unavailable:
            pass  # The connection is gone; the next session reconciles.

    # ---- what the intake reports -----------------------------------------------------------------------------

    async def acknowledged(self, stanza_ids: Collection[str]) -> None:
        """Not those that came back with an error before: the server had them, and would not keep them."""
        taken = [each for each in stanza_ids if each in self._flying]
        if taken:
            self._flying.difference_update(taken)
            await self._desk.delivery_acknowledged(taken)
            self._desk.wake.set()  # there is room in the window

    async def refused(self, stanza_id: str) -> None:
        self._flying.discard(stanza_id)
        await self._desk.delivery_refused(stanza_id, now=self._clock())

    async def resumed(self, kept: Collection[str]) -> None:
        """Rule 4."""
        async with self._lock:
            self._flying.intersection_update(kept)
            await self._desk.deliveries_lost(kept=kept)

    async def reconcile(self, archive: Archive) -> None:
        """Rule 5."""
        async with self._lock:
            self._flying.clear()
            open_ones = self._desk.unacknowledged()
            if not open_ones:
                return
            ids = {stanza_id for stanza_id, _ in open_ones}
            since = min(sent_at for _, sent_at in open_ones) - _SKEW_SECONDS
            async for page in archive.pages(since=since):
                arrived = ids.intersection(each.message.get("id", "") for each in page)
                await self._desk.delivery_acknowledged(arrived)
            await self._desk.deliveries_lost(kept=())
