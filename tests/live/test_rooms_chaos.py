"""The fault run for rooms: whatever happens, each line is on both sides of each room once and in order.

As test_xmpp_chaos.py, with several visitors, whose rooms are made, left half-joined, rejoined and caught up with in the
middle of it, and an admin who answers all the time, also while the desk is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desks import FREELY, desk_in, start
from tests.live.chaosocks import ChaoticSocks
from tests.live.ejabberd import Ejabberd
from tests.live.phone import Phone
from tests.live.prosody import Prosody
from tests.live.test_xmpp_chaos import HOST, PACE, Run
from veilsupport.desk import Desk
from veilsupport.model import Admin, Author, Private, Session
from veilsupport.xmpp import Account, Bridge, Tls, Trust

VISITORS = 3
MESSAGES = 120  # each way, over all rooms


class RoomRun(Run):
    """The same faults, in the room form, and a room that throws us out, of which we may hear late or never."""

    def _begin(self) -> None:
        line = self._bridge._line
        there = sorted(room for room in line._rooms if room.startswith("v-") and room in line.occupants)
        if there and line.up.is_set() and self._chance.random() < 0.3:
            room = self._chance.choice(there)
            line.send_presence(pto=f"{room}/{line.occupants.own_nick(room)}", ptype="unavailable")
            self.faults["thrown out"] += 1
        super()._begin()

    def _made(self) -> tuple[Bridge, asyncio.Task[None]]:
        bridge = Bridge(self._desk, self._account, on_change=lambda state: None, pace=PACE, wants_rooms=True)
        return bridge, asyncio.create_task(bridge.run(asyncio.Event()))


@pytest.fixture(scope="module", params=[Prosody, Ejabberd], ids=["prosody", "ejabberd"])
def server(request: pytest.FixtureRequest) -> Iterator[Prosody | Ejabberd]:
    with request.param(accounts={"desk": "pw", "ada": "pw"}) as server:
        yield server


@pytest.mark.parametrize("seed", [1, 2])
def test_every_line_is_in_its_room_once_and_in_order(server: Prosody | Ejabberd, tmp_path: Path, seed: int) -> None:
    server.add_account(f"desk{seed}", "pw")
    asyncio.run(asyncio.wait_for(_chaos(server, tmp_path, seed), 120))


async def _chaos(server: Prosody | Ejabberd, directory: Path, seed: int) -> None:
    ada = Admin("Ada", Private(server.jid("ada")))
    own = server.jid(f"desk{seed}")
    async with desk_in(directory, admins=(ada,)) as desk, ChaoticSocks({(HOST, 5223): server.tls_port}) as socks:
        desk.uses_rooms = True
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
        run = RoomRun(desk, account, socks, random.Random(seed))
        async with Phone(server.jid("ada"), "pw", desk=own, port=server.port) as phone:
            desk.sites = FREELY
            sessions = [await start(desk, f"first {number}") for number in range(VISITORS)]
            rooms = [(await phone.room_text(f"first {number}", seconds=20)).room for number in range(VISITORS)]
            for number in range(MESSAGES):
                turn = number % VISITORS
                await desk.visitor_says(sessions[turn], f"o{number}", once=str(number).encode(), now=0)
                phone.room_say(rooms[turn], f"i{number}")
                await run.step()
                run.check()
            socks.thaw()
            await _settled(desk, sessions, rooms, phone, run)
            await run.crash()
    faults = f"{sum(run.faults.values())} faults: {dict(run.faults)}"
    print(f"{type(server).__name__} seed {seed}: {MESSAGES} lines each way in {VISITORS} rooms, {faults}")


async def _settled(desk: Desk, sessions: list[Session], rooms: list[str], phone: Phone, run: Run) -> None:
    """Wait until all is there, and a little longer for what may come twice."""

    def outward(turn: int) -> list[str]:
        return [f"o{number}" for number in range(turn, MESSAGES, VISITORS)]

    def inward(turn: int) -> list[str]:
        return [f"i{number}" for number in range(turn, MESSAGES, VISITORS)]

    def missing() -> bool:
        seen = [set(outward(turn)) - set(_seen(phone, rooms[turn])) for turn in range(VISITORS)]
        said = [set(inward(turn)) - set(_answers(desk, sessions[turn])) for turn in range(VISITORS)]
        return any(seen) or any(said)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while missing() or desk.unacknowledged():
                run.check()
                await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    for turn in range(VISITORS):
        for got, wanted in ((_seen(phone, rooms[turn]), outward(turn)), (_answers(desk, sessions[turn]), inward(turn))):
            assert not _differences(got, wanted), _differences(got, wanted)


def _differences(got: list[str], wanted: list[str]) -> str:
    """In words; "" when there are none."""
    missing = [each for each in wanted if each not in got]
    doubled = [each for each in wanted if got.count(each) > 1]
    order = "" if missing or doubled or got == wanted else f"in another order: {got}"
    return f"missing {missing}, doubled {doubled}" if missing or doubled else order


def _seen(phone: Phone, room: str) -> list[str]:
    bodies = (got.body for got in phone.room_inbox[room])
    return [body for body in bodies if body[:1] == "o" and body[1:].isdecimal()]


def _answers(desk: Desk, session: Session) -> list[str]:
    history = desk.history(session, limit=10_000)
    return [message.body for message in history if message.author is Author.ADMIN]
