"""OMEMO against a real Prosody and phones that are none of our code. Our side is a bare line without bridge or desk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest

from tests.live.omemophone import OmemoPhone
from tests.live.prosody import Prosody
from tests.omemos import Disk
from veilsupport.errors import Duplicate
from veilsupport.model import Private
from veilsupport.xmpp import Account, Tls, Trust
from veilsupport.xmpp.archive import Archive
from veilsupport.xmpp.line import Line
from veilsupport.xmpp.omemo import DeviceTrust, NewDevice, Omemo, Undecryptable, Why, is_sealed
from veilsupport.xmpp.omemo_terms import NEW_DEVICE, NOT_FOR_US
from veilsupport.xmpp.signals import Asked, Heard, Signal

NAMES = ("ada", "bert")


@pytest.fixture(scope="module")
def server() -> Iterator[Prosody]:
    with Prosody(accounts={}) as server:
        yield server


class Crash(Exception):
    """Between the opening and what should have followed."""


class Side:
    """The desk's end. `opened` are (who, words); `words` the answers to what did not open."""

    def __init__(self, place: Place, *, strict: bool) -> None:
        self.place = place
        self.opened: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.told: list[NewDevice] = []
        self.keys_heard = 0  # messages that only carried keys
        self.crashes = 0  # how many openings shall not be finished
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()
        self._news = asyncio.Condition()
        self._number = 0
        self.line = Line(
            place.account(),
            admins=[place.jid(name) for name in NAMES],
            credentials=("a", "b"),
            dial_seconds=5,
            hear=self._hear,
        )
        self.omemo = Omemo(self.line, place.disk, strict=strict, told=self.told.append)

    async def begin(self) -> None:
        self.line.open()
        await asyncio.wait_for(self.line.up.wait(), 10)
        for name in NAMES:
            self.line.send_presence(pto=self.place.jid(name), ptype="subscribe")
        await self.omemo.start()
        self.line.send_presence()
        await self.omemo.caught_up()

    async def say(self, text: str, *names: str, room: str = "") -> dict[str, Why]:
        """To an admin, or to a room with them in it; who cannot read it, and why."""
        self._number += 1
        to, kind = (room, "groupchat") if room else (self.place.jid(names[0]), "chat")
        message = Element("{jabber:client}message", {"to": to, "type": kind, "id": f"line-{self._number}"})
        SubElement(message, "{jabber:client}body").text = text
        sealed = await self.omemo.encrypt(message, [self.place.jid(name) for name in names])
        if sealed.message is not None:
            assert sealed.message.get("id") == f"line-{self._number}"
            self.line.post(sealed.message)
        return dict(sealed.unreachable)

    async def when(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(15), self._news:
            await self._news.wait_for(true)

    async def hears(self, name: str, text: str) -> None:
        await self.when(lambda: (self.place.jid(name), text) in self.opened)

    async def archived(self) -> list[Element]:
        """The sealed words in our own archive, oldest first."""
        found = [each.message async for page in Archive(self.line).pages() for each in page]
        return [each for each in found if is_sealed(each) and not each.get("from", "").startswith(self.line.own)]

    def _hear(self, signal: Signal) -> None:
        if isinstance(signal, Asked):
            self.line.acknowledge(signal)
        elif isinstance(signal, Heard):
            self._heard.put_nowait(signal)

    async def work(self) -> None:
        while True:
            heard = await self._heard.get()
            await self._take(heard)
            async with self._news:
                self._news.notify_all()

    async def _take(self, heard: Heard) -> None:
        message = heard.message
        if await self.omemo.hear(message) or not is_sealed(message):
            return
        sender = message.get("from", "").partition("/")[0]
        if message.get("type") == "groupchat":
            sender = heard.speaker
            if sender == self.line.own:
                return
        with contextlib.suppress(Crash, Duplicate):
            try:
                async with self.omemo.opening(message, sender) as body:
                    if self.crashes and body:
                        self.crashes -= 1
                        raise Crash
                    self.opened += [(sender, body)] if body else []
                    self.keys_heard += not body
            except Undecryptable as error:
                self.words.append(error.message)


class Place:
    """One test's accounts, and the desk's disk."""

    def __init__(self, server: Prosody, tag: str) -> None:
        self.server = server
        self.tag = tag
        self.disk = Disk()

    def jid(self, name: str) -> str:
        return self.server.jid(f"{name}-{self.tag}")

    def account(self) -> Account:
        return Account(
            Private(self.jid("desk")),
            Private("pw"),
            "127.0.0.1",
            self.server.port,
            tls=Tls.STARTTLS,
            trust=Trust.PIN,
            fingerprint=self.server.fingerprint,
        )

    @contextlib.asynccontextmanager
    async def side(self, *, strict: bool = False) -> AsyncIterator[Side]:
        side = Side(self, strict=strict)
        worker = asyncio.create_task(side.work())
        try:
            await side.begin()
            yield side
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
            await side.line.close(3)

    def phone(self, name: str = "ada", **more: Any) -> OmemoPhone:
        return OmemoPhone(self.jid(name), "pw", desk=self.jid("desk"), port=self.server.port, **more)


Runner = Callable[[Callable[[Place], Awaitable[None]]], None]


@pytest.fixture
def run(server: Prosody, request: pytest.FixtureRequest) -> Runner:
    """Run a story with accounts of its own."""
    place = Place(server, f"{hash(request.node.name) & 0xFFFFFFFF:08x}")
    for name in ("desk", *NAMES):
        server.add_account(f"{name}-{place.tag}", "pw")

    def runner(story: Callable[[Place], Awaitable[None]]) -> None:
        asyncio.run(asyncio.wait_for(story(place), 60))

    return runner


# ---- one and one -----------------------------------------------------------------------------------------------------


def test_words_go_both_ways_sealed(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.side() as side:
            assert await side.say("for your eyes", "ada") == {}
            await ada.words("for your eyes")
            await ada.say_sealed("and for yours")
            await side.hears("ada", "and for yours")
            for number in range(10):
                await side.say(f"down {number}", "ada")
                await ada.say_sealed(f"up {number}")
            await ada.words("down 9")
            await side.hears("ada", "up 9")
            assert side.words == ada.unopened == []
            assert ada.opened == ["for your eyes", *(f"down {number}" for number in range(10))]
            assert await ada.desk_fingerprints() == {side.omemo.fingerprint}
            [device] = await side.omemo.devices(place.jid("ada"))
            assert (device.id, device.fingerprint) == (await ada.device_id(), await ada.fingerprint())
            assert side.told == []
            for each in ada.inbox:
                assert "down" not in "".join(each.element.itertext())

    run(story)


def test_nobody_is_written_to_who_has_no_omemo(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.side() as side:
            assert await side.say("nobody could read this", "bert") == {place.jid("bert"): Why.NO_DEVICE}
            assert await side.say("ada can", "ada", "bert") == {place.jid("bert"): Why.NO_DEVICE}
            await ada.words("ada can")

    run(story)


def test_keys_outlive_a_restart_and_are_published_once(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada:
            async with place.side() as side:
                await side.say("one", "ada")
                await ada.words("one")
                await ada.say_sealed("two")
                await side.hears("ada", "two")
                uri = side.omemo.uri
            await ada.say_sealed("while you were away")
            async with place.side() as side:
                assert side.omemo.uri == uri == f"xmpp:{place.jid('desk')}?omemo-sid-{uri.split('-sid-')[1]}"
                await side.hears("ada", "while you were away")
                await side.say("three", "ada")
                await ada.words("three")
            assert ada.unopened == []
            assert await ada.desk_fingerprints() == {uri.rpartition("=")[2]}

    run(story)


# ---- devices that come, and state that goes --------------------------------------------------------------------------


def test_new_device_is_told_and_trusted(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.side() as side:
            await side.say("one", "ada")
            await ada.words("one")
            async with place.phone(resource="tablet") as tablet:
                await side.when(lambda: bool(side.told))  # its list has changed; nothing was sent or heard yet
                assert side.told == [
                    NewDevice(place.jid("ada"), await tablet.device_id(), await tablet.fingerprint(), False)
                ]
                await side.say("two", "ada")
                await tablet.words("two")
                await tablet.say_sealed("from the tablet")
                await side.hears("ada", "from the tablet")
        async with place.side() as side:
            await side.say("three", "ada")
            assert side.told == []

    run(story)


def test_strict_desk_holds_a_new_device_until_it_is_confirmed(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.side(strict=True) as side:
            await side.say("one", "ada")
            await ada.words("one")
            async with place.phone(resource="tablet") as tablet:
                await side.when(lambda: bool(side.told))
                assert side.told[0].held
                await side.say("two", "ada")
                await ada.words("two")
                await tablet.when(lambda: bool(tablet.unopened))
                assert tablet.opened == []
                await tablet.say_sealed("let me in")
                await side.when(lambda: bool(side.words))
                assert side.words == [NEW_DEVICE]
                assert side.opened == []
                fingerprint = await tablet.fingerprint()
                confirmed = await side.omemo.trust(place.jid("ada"), fingerprint[:8] + " " + fingerprint[8:16])
                assert confirmed.trust is DeviceTrust.TRUSTED
                await tablet.say_sealed("am I in?")
                await side.hears("ada", "am I in?")
                await side.say("you are", "ada")
                await tablet.words("you are")
                assert len(side.told) == 1

    run(story)


def test_lost_state_is_said_in_words_and_begun_anew(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada:
            async with place.side() as side:
                await side.say("one", "ada")
                await ada.words("one")
                await ada.say_sealed("two")
                await side.hears("ada", "two")
            place.disk = Disk()
            await ada.say_sealed("for the key that is gone")
            async with place.side() as side:
                await side.when(lambda: side.words == [NOT_FOR_US])
                await ada.say_sealed("for the new one")
                await side.hears("ada", "for the new one")
                await side.say("welcome back", "ada")
                await ada.words("welcome back")
                assert side.opened == [(place.jid("ada"), "for the new one")]

    run(story)


def test_lost_session_is_begun_anew(run: Runner) -> None:
    """Our disk is an older one than the phone remembers: words once, then the phone has been told of a new session."""

    async def story(place: Place) -> None:
        async with place.phone() as ada:
            async with place.side() as side:
                await side.say("one", "ada")
                await ada.words("one")
                await ada.say_sealed("two")
                await side.hears("ada", "two")
                before = ada.key_transports
            place.disk.entries = {
                key: value for key, value in place.disk.entries.items() if not key.endswith("double_ratchet")
            }
            async with place.side() as side:
                await ada.say_sealed("three")
                await side.when(lambda: bool(side.words))
                assert "begun a new OMEMO session" in side.words[0]
                await ada.when(lambda: ada.key_transports > before)
                await ada.say_sealed("four")
                await side.hears("ada", "four")
                await side.say("five", "ada")
                await ada.words("five")
                assert len(side.words) == 1
                assert ada.unopened == []

    run(story)


# ---- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_what_was_opened_but_not_finished_opens_again_from_the_archive(run: Runner, first: bool) -> None:
    """`first`: the message that builds the session, or one within it."""

    async def story(place: Place) -> None:
        async with place.phone() as ada:
            async with place.side() as side:
                if not first:
                    await ada.say_sealed("zero")
                    await side.hears("ada", "zero")
                    await ada.when(lambda: ada.key_transports == 1)
                side.crashes = 1
                await ada.say_sealed("one")
                await side.when(lambda: side.crashes == 0)
                await ada.say_sealed("two")
                await side.hears("ada", "two")
            async with place.side() as side:
                last, but_one = (await side.archived())[-1], (await side.archived())[-2]
                assert await side.omemo.decrypt(but_one, place.jid("ada")) == "one"
                with pytest.raises(Duplicate):
                    await side.omemo.decrypt(last, place.jid("ada"))
                await side.say("three", "ada")
                await ada.words("three")

    run(story)


# ---- rooms -----------------------------------------------------------------------------------------------------------


def test_room_of_three_reads_what_each_says(run: Runner) -> None:
    async def story(place: Place) -> None:
        everybody = [place.jid(name) for name in ("desk", *NAMES)]
        async with place.phone() as ada, place.phone("bert") as bert, place.side() as side:
            room = await ada.create_room("heron-42")
            for jid in everybody:
                if jid != place.jid("ada"):
                    await ada.invite(room, jid)
            await bert.join(room)
            await side.line.join(room, "heron-42")
            assert await side.say("a visitor writes", "ada", "bert", room=room) == {}
            for phone in (ada, bert):
                await phone.words("a visitor writes")
                assert phone.opened_in == [(room, "a visitor writes")]
            await ada.room_say_sealed(room, "ada answers", everybody)
            await side.hears("ada", "ada answers")
            await bert.words("ada answers")
            await bert.room_say_sealed(room, "bert answers", everybody)
            await side.hears("bert", "bert answers")
            await ada.words("bert answers")
            assert side.words == ada.unopened == bert.unopened == []
            assert len(side.opened) == 2

    run(story)


def test_line_of_somebody_who_has_left_the_room_opens_from_its_archive(run: Runner) -> None:
    async def story(place: Place) -> None:
        async with place.phone() as ada, place.side() as side:
            room = await ada.create_room("heron-42")
            await ada.invite(room, place.jid("desk"))
            await ada.invite(room, place.jid("bert"))
            async with place.phone("bert") as bert:
                await bert.join(room)
                await bert.room_say_sealed(room, "and off I go", [place.jid("desk"), place.jid("ada")])
                await ada.words("and off I go")
                await bert.leave(room)
            await side.line.join(room, "heron-42")
            query = Element("{urn:xmpp:mam:2}query", queryid="q")
            answer = await side.line.ask_archive(query, "q", of=room)
            assert isinstance(answer, tuple)
            found = [result.find("{urn:xmpp:forward:0}forwarded/{jabber:client}message") for result in answer[0]]
            [message] = [each for each in found if each is not None and is_sealed(each)]
            item = message.find("{http://jabber.org/protocol/muc#user}x/{http://jabber.org/protocol/muc#user}item")
            assert item is not None
            sender = item.get("jid", "").partition("/")[0]
            assert sender == place.jid("bert")
            assert await side.omemo.decrypt(message, sender) == "and off I go"

    run(story)
