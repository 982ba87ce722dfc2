"""The fault run: whatever happens to link, session and process, each message is on both sides once and in order.

Faults come from a seeded generator: for a few messages the link passes nothing on, in one direction or both; then it
thaws, is cut, the server has forgotten the session, or our side crashes (the bridge dropped without a word and made
anew over the same database).

It has been seen to fail with each of these rules broken: delivery_acknowledged in Outgoing.reconcile, deliveries_lost
there and (or for all) in Outgoing.resumed, the second look at `ready` in Outgoing._send_batch, the catch-up in
Incoming._set_up, the waiting of live stanzas in Incoming._handle, the key in Incoming._intake.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desks import FREELY, desk_in, start
from tests.live.chaosocks import ChaoticSocks
from tests.live.ejabberd import Ejabberd
from tests.live.phone import Phone
from tests.live.prosody import Prosody
from tests.live.xmppserver import XmppServer
from veilsupport.desk import Desk
from veilsupport.model import Admin, Author, Private, Session
from veilsupport.xmpp import Account, Bridge, Pace, Phase, Tls, Trust

MESSAGES = 150
HOST = "desk.onion"
PACE = Pace(
    dial=5, negotiate=5, set_up=10, ping=1, pong=1, first_pause=0.05, longest_pause=0.5, refused_pause=2, steady=0.2
)


class Run:
    """One desk behind a chaotic SOCKS port, and the chance that troubles it."""

    def __init__(self, desk: Desk, account: Account, socks: ChaoticSocks, chance: random.Random) -> None:
        self.faults: Counter[str] = Counter()
        self._desk = desk
        self._account = account
        self._socks = socks
        self._chance = chance
        self._steps_left = 0
        self._ending = ""
        self._bridge, self._task = self._made()

    def _made(self) -> tuple[Bridge, asyncio.Task[None]]:
        bridge = Bridge(self._desk, self._account, on_change=lambda state: None, pace=PACE)
        return bridge, asyncio.create_task(bridge.run(asyncio.Event()))

    async def step(self) -> None:
        """Perhaps a fault begins or ends, and a moment passes."""
        if self._steps_left:
            self._steps_left -= 1
            if not self._steps_left:
                await self._end()
        elif self._chance.random() < (0.25 if self._bridge.state.phase is Phase.ONLINE else 0.03):
            self._begin()  # mostly while words are on their way
        await asyncio.sleep(self._chance.uniform(0, 0.1))

    def _begin(self) -> None:
        """For a few messages one direction passes nothing on, or both, or all is well; then comes the ending."""
        up, down = self._chance.choice([(True, False), (False, True), (True, True), (False, False)])
        if up or down:
            self._socks.freeze(up=up, down=down)
            self.faults["freeze"] += 1
        self._ending = self._chance.choice(["thaw", "cut", "forgotten session", "crash"])
        if self._ending != "thaw":
            self.faults[self._ending] += 1
        self._steps_left = self._chance.randint(1, 12)

    async def _end(self) -> None:
        match self._ending:
            case "cut":
                self._socks.cut()
            case "forgotten session":
                self._bridge._line.plugin["xep_0198"].sm_id = "unknown"
                self._socks.cut()
            case "crash":
                await self.crash()
                self._bridge, self._task = self._made()
        self._socks.thaw()

    async def crash(self) -> None:
        """Nothing is said, nothing is saved."""
        if self._task.done():
            self._task.result()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def check(self) -> None:
        if self._task.done():
            self._task.result()


@pytest.fixture(scope="module", params=[Prosody, Ejabberd])
def server(request: pytest.FixtureRequest) -> Iterator[XmppServer]:
    with request.param(accounts={"desk": "pw", "ada": "pw"}, rooms=False) as server:
        yield server


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_message_is_on_both_sides_once_and_in_order(server: XmppServer, tmp_path: Path, seed: int) -> None:
    server.add_account(f"desk{seed}", "pw")
    asyncio.run(asyncio.wait_for(_chaos(server, tmp_path, seed), 90))


async def _chaos(server: XmppServer, directory: Path, seed: int) -> None:
    ada = Admin("Ada", Private(server.jid("ada")))
    routes = {(HOST, 5223): server.tls_port}
    own = server.jid(f"desk{seed}")
    async with desk_in(directory, admins=(ada,)) as desk, ChaoticSocks(routes) as socks:
        account = Account(
            Private(own),
            Private("pw"),
            HOST,
            5223,
            tls=Tls.DIRECT,
            trust=Trust.PIN,
            fingerprint=server.fingerprint,
            proxy=socks.proxy,
        )
        run = Run(desk, account, socks, random.Random(seed))
        receipts = seed % 2 == 0  # they alone would hide that the archive was not asked
        async with Phone(server.jid("ada"), "pw", desk=own, port=server.port, receipts=receipts) as phone:
            desk.sites = FREELY
            session = await start(desk, "the first")
            await phone.text("the first")
            [alias] = desk.open_aliases()
            for number in range(MESSAGES):
                await desk.visitor_says(session, f"o{number}", once=str(number).encode(), now=0)
                phone.say(f"@{alias} i{number}")
                await run.step()
                run.check()
            socks.thaw()
            await _settled(desk, session, phone, run)
            await run.crash()
    print(f"seed {seed}: {MESSAGES} messages each way, {sum(run.faults.values())} faults: {dict(run.faults)}")


async def _settled(desk: Desk, session: Session, phone: Phone, run: Run) -> None:
    """Wait until all is there, and a little longer for what may come twice."""
    outward = [f"o{number}" for number in range(MESSAGES)]
    inward = [f"i{number}" for number in range(MESSAGES)]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(40):
            while set(outward) - set(_seen(phone)) or set(inward) - set(_answers(desk, session)):
                run.check()
                await asyncio.sleep(0.1)
            while desk.unacknowledged():
                await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    assert _seen(phone) == outward
    assert _answers(desk, session) == inward


def _seen(phone: Phone) -> list[str]:
    bodies = (got.body.split("] ", 1)[-1] for got in phone.inbox)
    return [body for body in bodies if body[:1] == "o" and body[1:].isdecimal()]


def _answers(desk: Desk, session: Session) -> list[str]:
    history = desk.history(session, limit=10_000)
    return [message.body for message in history if message.author is Author.ADMIN]
