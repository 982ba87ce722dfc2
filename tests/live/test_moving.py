"""Moving house on the private Tor network: the same address, the same conversations, and never two at once."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Browser, bodies, words_of
from tests.live.appliance import Appliance, run_command
from tests.live.maindesk import BACKUP, PASSWORDS, is_online, set_up
from tests.live.omemophone import OmemoPhone
from tests.live.overhttp import browser_at
from tests.live.phone import Phone
from tests.live.privnet import PrivateTorNetwork
from tests.live.prosody import Prosody
from veilsupport import crypto
from veilsupport.directory import ONION_KEY, RESTORED
from veilsupport.errors import Unavailable
from veilsupport.moving import twin
from veilsupport.tor import TorSettings


class PlainAdmin:
    """Ada as both kinds of apps let her be: she hears and answers in rooms."""

    def __init__(self, server: Prosody) -> None:
        self.server = server
        self.phone = self._made()

    def _made(self) -> Phone:
        return Phone(self.server.jid("ada"), PASSWORDS["ada"], desk=self.server.jid("desk"), port=self.server.port)

    async def hears(self, text: str, room: str | None = None) -> str:
        return (await self.phone.room_text(text, room, seconds=60)).room

    async def says(self, room: str, text: str) -> None:
        self.phone.room_say(room, text)


class SealedAdmin(PlainAdmin):
    phone: OmemoPhone

    def _made(self) -> OmemoPhone:
        jid, desk = self.server.jid("ada"), self.server.jid("desk")
        return OmemoPhone(jid, PASSWORDS["ada"], desk=desk, port=self.server.port)

    async def hears(self, text: str, room: str | None = None) -> str:
        await self.phone.words(text, seconds=60)
        return next(where for where, words in self.phone.opened_in if words == text)

    async def says(self, room: str, text: str) -> None:
        await self.phone.room_say_sealed(room, text, {self.server.jid("desk")})


def commanded(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = run_command(*arguments, env=BACKUP)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("kind", [PlainAdmin, SealedAdmin])
def test_desk_moves_with_its_address_and_conversations(
    kind: type[PlainAdmin], tornet: PrivateTorNetwork, prosody: Prosody, tmp_path: Path
) -> None:
    data, house, file = tmp_path / "data", tmp_path / "house", tmp_path / "desk.backup"
    set_up(data, prosody, host="127.0.0.1", port=prosody.port, torrc_lines=tornet.torrc_lines)
    asyncio.run(moved(kind, prosody, tornet, data, house, file))


async def moved(
    kind: type[PlainAdmin], server: Prosody, net: PrivateTorNetwork, data: Path, house: Path, file: Path
) -> None:
    ada = kind(server)  # in this loop
    async with ada.phone:
        with Appliance(data) as old:
            page = await asyncio.to_thread(old.wait_for_onion)
            await asyncio.to_thread(old.wait_until, "online", is_online)
            visitor = browser_at(page, socks=net.socks)
            await visitor.start("is anyone there?")
            code = words_of((await visitor.get("/chat")).text)
            room = await ada.hears("is anyone there?")
            await ada.says(room, "yes, we are here")
            await shows(visitor, "yes, we are here")
            await asyncio.to_thread(commanded, "backup", str(file), "--data", str(data))
            assert "whole" in (await asyncio.to_thread(commanded, "backup", "--verify", str(file))).stdout
            await visitor.say("said since the backup")
            await ada.hears("said since the backup", room)
            told = await asyncio.to_thread(commanded, "restore", str(file), "--data", str(house))
            assert page in told.stdout
            await asyncio.to_thread(refuses, house)
            await visitor.say("the old one goes on")
            await ada.hears("the old one goes on", room)
            assert await asyncio.to_thread(old.stop) == 0
        with Appliance(house) as new:
            # It asks for the old machine first, whose descriptor outlives it.
            assert await asyncio.to_thread(new.wait_for_onion, seconds=180) == page
            await asyncio.to_thread(new.wait_until, "online", is_online)
            assert not (house / RESTORED).exists()
            net.new_identity()  # the visitor's tor still asks for the old machine's introduction points
            again = browser_at(page, socks=net.socks)
            await until(lambda: comes_back(again, code))
            await shows(again, "is anyone there?", "yes, we are here")
            await again.say("it is me again")
            assert await ada.hears("it is me again", room) == room
            await ada.says(room, "welcome back")
            await shows(again, "welcome back")
            await visitor.say("the open page goes on, too")  # by its session
            await ada.hears("the open page goes on, too", room)
            assert await asyncio.to_thread(new.stop) == 0


def refuses(house: Path) -> None:
    """While the old one runs. It ends by itself, before it has published anything."""
    with Appliance(house) as twin:
        assert twin.process is not None
        twin.wait_for("error: Another VeilSupport answers at this address", seconds=90)
        assert twin.process.wait(10) == 2
        assert "hint: Stop that one for good" in twin.output
        assert "reachable" not in twin.output
    assert (house / RESTORED).exists()


async def comes_back(visitor: Browser, code: str) -> bool:
    answer = await visitor.send_form("/return", code=code)
    return (answer.status, answer.place) == (303, "/chat")


async def shows(visitor: Browser, *texts: str) -> None:
    async def all_there() -> bool:
        found = bodies((await visitor.get("/chat/latest")).text)
        return all(text in found for text in texts)

    await until(all_there)


async def until(true: Callable[[], Awaitable[bool]], *, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                if await true():
                    return
            except (Unavailable, OSError, TimeoutError):
                pass  # on the way
            await asyncio.sleep(0.2)


def test_operator_may_say_that_it_is_alone(prosody: Prosody, tmp_path: Path) -> None:
    """Without Tor nothing can be asked, so the mark stays until it can, or until the operator says so."""
    data, house = tmp_path / "data", tmp_path / "house"
    set_up(data, prosody, host="127.0.0.1", port=prosody.port)
    with Appliance(data, "--no-tor", "--port", "18477") as appliance:
        appliance.wait_until("online", is_online)
        assert appliance.stop() == 0
    commanded("backup", str(tmp_path / "b"), "--data", str(data))
    commanded("restore", str(tmp_path / "b"), "--data", str(house))
    for arguments, stays in (([], True), (["--alone"], False)):
        with Appliance(house, "--no-tor", "--port", "18477", *arguments) as appliance:
            appliance.wait_until("online", is_online)
            assert appliance.stop() == 0
        assert (house / RESTORED).exists() is stays


def test_nobody_answers_at_an_address_that_was_never_published(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    address = crypto.onion_address(crypto.new_onion_key())
    settings = TorSettings(directory=tmp_path / "tor", onion=None, torrc_lines=tornet.torrc_lines)
    assert asyncio.run(twin.answers_elsewhere(settings, address)) is False
    assert not list(tmp_path.rglob(ONION_KEY))


def test_service_of_any_kind_at_the_address_is_found(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    """Also one that has nothing behind it at that port: somebody else holds the key."""
    address, close = tornet.onion_service(9, onion_port=5222)
    settings = TorSettings(directory=tmp_path / "tor", onion=None, torrc_lines=tornet.torrc_lines)
    states: list[Any] = []
    assert asyncio.run(twin.answers_elsewhere(settings, address, on_change=states.append)) is True
    close()
    assert asyncio.run(twin.answers_elsewhere(settings, address)) is False
    assert not any(re.search(r"publish|reach", state.summary) for state in states)
