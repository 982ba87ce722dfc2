"""The desk and its admins end-to-end encrypted: real servers, a real desk and bridge, and phones that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest

from tests.desks import FREELY, start
from tests.live.chaosocks import ChaoticSocks
from tests.live.omemophone import OmemoPhone
from tests.live.phonerooms import REPLACE
from tests.live.profanity import Profanity
from tests.live.prosody import Prosody
from tests.live.roomdesk import HOST, PACE, SERVERS, Stage, until
from tests.live.test_xmpp_chaos import PACE as CHAOS_PACE
from tests.live.test_xmpp_chaos import Run
from tests.live.xmppserver import XmppServer
from veilsupport.model import Admin, EndToEnd, MessageState
from veilsupport.xmpp import Bridge, Phase, direct
from veilsupport.xmpp.omemo import FALLBACK
from veilsupport.xmpp.omemo_terms import MALFORMED, NEW_DEVICE, NOT_FOR_US, Why
from veilsupport.xmpp.sealing import NO_KEYS, UNREADABLE, WAITING, WHY

OMEMO = "eu.siacs.conversations.axolotl"
ENVELOPE = f"{{{OMEMO}}}encrypted"
PUBSUB = "{http://jabber.org/protocol/pubsub}"
DATA = "{jabber:x:data}"
SECRET = "ultramarine"  # in the words of people; nothing of a server's may hold it


class AdminPhone(OmemoPhone):
    """Opens one after the other, as it came, and says in rooms whatever else belongs to a line."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._one_at_a_time = asyncio.Lock()

    async def __aenter__(self) -> AdminPhone:
        await super().__aenter__()
        return self

    async def _open(self, stanza: Any) -> None:
        async with self._one_at_a_time:
            await super()._open(stanza)

    async def room_words(self, text: str, *, seconds: float = 15) -> str:
        """Until that was opened in a room; which one."""
        await self.words(text, seconds=seconds)
        return next(room for room, words in self.opened_in if words == text)

    async def opened_part(self, part: str, *, seconds: float = 15) -> str:
        """Until something with that in it was opened."""
        try:
            await self.when(lambda: any(part in words for words in self.opened), seconds=seconds)
        except TimeoutError:
            raise AssertionError(f"{part!r} did not come; there is {self.opened}, and {self.unopened}") from None
        return next(words for words in self.opened if part in words)

    async def room_say_with(self, room: str, text: str, to: set[str], *extra: Element) -> str:
        message = self._client.make_message(room, text, mtype="groupchat")
        return await self._send_sealed(message, {type(self._desk)(jid) for jid in to}, extra)

    async def archive(self) -> str:
        """All that the account's archive holds, as text."""
        found = [each async for each in self._client.plugin["xep_0313"].iterate(rsm={"max": 50})]
        return "\n".join(text for each in found for text in each.xml.itertext())


class OmemoStage(Stage):
    strict = False
    keeps_archive = True

    def made_bridge(self, *, wants_rooms: bool = True) -> Bridge:
        return Bridge(
            self.desk,
            self.account(),
            on_change=self._changed,
            wants_rooms=wants_rooms,
            keeps_archive=self.keeps_archive,
            strict_devices=self.strict,
            pace=PACE,
        )

    def sealing(self, name: str, wish: EndToEnd = EndToEnd.PREFER) -> Admin:
        return self.admin(name, end_to_end=wish)

    def omemo_phone(self, name: str = "ada", **more: Any) -> AdminPhone:
        return AdminPhone(self.jid(name), "pw", desk=self.own, port=self.server.port, nick=name, **more)

    async def show_empty_list(self, name: str, *, access: str = "") -> None:
        """As if all apps of that account had been signed out for good."""
        pubsub = Element(f"{PUBSUB}pubsub")
        publish = SubElement(pubsub, f"{PUBSUB}publish", node=f"{OMEMO}.devicelist")
        SubElement(SubElement(publish, f"{PUBSUB}item", id="current"), f"{{{OMEMO}}}list")
        if access:
            options = SubElement(pubsub, f"{PUBSUB}publish-options")
            form = SubElement(options, f"{DATA}x", type="submit")
            for key, value in {"FORM_TYPE": f"{PUBSUB[1:-1]}#publish-options", "pubsub#access_model": access}.items():
                SubElement(SubElement(form, f"{DATA}field", var=key), f"{DATA}value").text = value
        async with self.phone(name, joins=False, resource="settings") as phone:
            await phone.iq("set", self.jid(name), pubsub)

    def on_disk(self, words: str) -> bool:
        """Whether the server's data has that in plain sight; only Prosody's does say so."""
        files = [file for file in (self.server.directory / "data").rglob("*") if file.is_file()]
        return isinstance(self.server, Prosody) and any(words.encode() in file.read_bytes() for file in files)


Story = Callable[[OmemoStage], Awaitable[None]]
Runner = Callable[[Story], None]


def tell(story: Story, server: XmppServer, directory: Path) -> None:
    async def within() -> None:
        async with asyncio.timeout(90), ChaoticSocks({(HOST, 5223): server.tls_port}) as socks:
            await story(OmemoStage(server, directory, socks))

    asyncio.run(within())


@pytest.fixture(scope="module", params=SERVERS, ids=["prosody", "ejabberd"])
def server(request: pytest.FixtureRequest) -> Iterator[XmppServer]:
    with request.param(accounts={}) as server:
        yield server


@pytest.fixture(scope="module")
def prosody() -> Iterator[XmppServer]:
    with Prosody(accounts={}) as server:
        yield server


@pytest.fixture
def run(server: XmppServer, tmp_path: Path) -> Runner:
    return lambda story: tell(story, server, tmp_path)


@pytest.fixture
def run_one(prosody: XmppServer, tmp_path: Path) -> Runner:
    """On Prosody alone."""
    return lambda story: tell(story, prosody, tmp_path)


async def first_of(somebody: Profanity, *texts: str) -> str:
    """Wait until one of them stands on the screen; the whole screen."""
    with contextlib.suppress(TimeoutError):
        await until(lambda: any(text in somebody.screen() for text in texts))
        return somebody.screen()
    raise AssertionError(f"none of {texts} is on the screen:\n{somebody.screen()}")


def replacing(id: str) -> Element:
    return Element(REPLACE, id=id)


# ---- the two forms ---------------------------------------------------------------------------------------------------


def test_a_room_is_sealed_both_ways(run: Runner) -> None:
    async def story(stage: OmemoStage) -> None:
        admins = [stage.sealing("Ada"), stage.sealing("Bert")]
        async with (
            stage.open_desk(admins) as desk,
            stage.omemo_phone("ada") as ada,
            stage.omemo_phone("bert") as bert,
            stage.bridge(),
        ):
            session = await start(desk, f"one {SECRET}")
            room = await ada.room_words(f"one {SECRET}")
            assert await bert.room_words(f"one {SECRET}") == room
            everyone = {stage.own, stage.jid("ada"), stage.jid("bert")}

            said = await ada.room_say_with(room, f"two {SECRET}", everyone)
            await stage.answered(session, f"two {SECRET}")
            await bert.words(f"two {SECRET}")
            again = await ada.room_say_with(room, f"three {SECRET}", everyone, replacing(said))
            await stage.answered(session, f"three {SECRET}")
            await ada.room_say_with(room, f"four {SECRET}", everyone, replacing(again))
            await stage.answered(session, f"four {SECRET}")

            await ada.room_say_with(room, f"!note five {SECRET}", everyone)
            await bert.room_say_with(room, "!claim", everyone)
            await ada.opened_part("Bert")
            await ada.room_say_with(room, "!clam", everyone)
            await ada.opened_part("no such command")
            first = await ada.room_until(lambda got: got.id == said, room)
            ada.room_retract(room, first.stanza_id)
            await until(lambda: desk.history(session)[1].state is MessageState.RETRACTED)
            await bert.room_say_with(room, f"six {SECRET}", everyone)
            await stage.answered(session, "", f"six {SECRET}")

            await stage.says(session, f"seven {SECRET}")
            await ada.room_words(f"seven {SECRET}")
            kept = await ada.room_archive(room)
            assert len([got for got in kept if got.element.find(ENVELOPE) is not None]) > 8
            assert not any(SECRET in text for got in kept for text in got.element.itertext())
            assert SECRET not in await ada.archive()
            assert not stage.on_disk(SECRET)
            assert ada.unopened == bert.unopened == []

    run(story)


def test_a_chat_is_sealed_both_ways(run: Runner) -> None:
    async def story(stage: OmemoStage) -> None:
        async with (
            stage.open_desk([stage.sealing("Ada"), stage.sealing("Bert")], uses_rooms=False) as desk,
            stage.omemo_phone() as ada,
            stage.bridge(wants_rooms=False) as bridge,
        ):
            session = await start(desk, f"one {SECRET}")
            alias = stage.alias(session)
            await ada.words(f"[{alias}] one {SECRET}")
            said = await ada.say_sealed(f"two {SECRET}")
            await stage.answered(session, f"two {SECRET}")
            await ada.words(f"→ {alias}")
            await ada.when(lambda: said in ada.receipts)
            await ada.say_sealed(f"three {SECRET}", replacing(said))
            await stage.answered(session, f"three {SECRET}")

            await ada.say_sealed("!omemo")
            told = await ada.opened_part("fingerprint")
            [fingerprint] = await ada.desk_fingerprints()
            assert " ".join(fingerprint[at : at + 8] for at in range(0, 64, 8)) in told
            assert bridge.state.omemo is not None
            assert bridge.state.omemo in told
            assert bridge.state.omemo.startswith(f"xmpp:{stage.own}?omemo-sid-")
            assert bridge.state.omemo.endswith(f"={fingerprint}")

            await ada.say_sealed(f"!trust Ada {(await ada.fingerprint())[:8]}")
            await ada.opened_part("The device is looked up")
            await ada.opened_part("is confirmed.")
            await ada.say_sealed("!trust Ada 00000000")
            await ada.opened_part("No such device is known.")

            await ada.say_sealed("aesgcm://files.example/x.jpg#00ff")
            await ada.words(direct.FILE)
            ring = next(got for got in ada.inbox if got.element.find(ENVELOPE) is not None)
            quoted = f"> [{alias}] one {SECRET}\n"
            fallback = Element("{urn:xmpp:fallback:0}fallback", {"for": "urn:xmpp:reply:0"})
            SubElement(fallback, "{urn:xmpp:fallback:0}body", start="0", end=str(len(quoted)))
            reply = Element("{urn:xmpp:reply:0}reply", to=stage.own, id=ring.id)
            await ada.say_sealed(f"{quoted}four {SECRET}", reply, fallback)
            await stage.answered(session, f"three {SECRET}", f"four {SECRET}")
            ada.retract(said)
            await stage.answered(session, "", f"four {SECRET}")
            kept = await ada.archive()
            assert FALLBACK in kept
            assert SECRET not in kept
            assert ada.unopened == []

    run(story)


def test_keys_may_be_read_by_all_also_where_their_node_was_closed(run_one: Runner) -> None:
    async def story(stage: OmemoStage) -> None:
        await stage.show_empty_list("desk", access="whitelist")
        async with (
            stage.open_desk([stage.sealing("Ada")], uses_rooms=False),
            stage.omemo_phone("mallory") as nobody,
            stage.bridge(wants_rooms=False) as bridge,
        ):
            await stage.phase(Phase.ONLINE)
            query = Element(f"{PUBSUB}pubsub")
            SubElement(query, f"{PUBSUB}items", node=f"{OMEMO}.devicelist")
            listed = (await nobody.iq("get", stage.own, query)).iter(f"{{{OMEMO}}}device")
            assert bridge.state.omemo is not None
            assert [f"omemo-sid-{each.get('id')}=" in bridge.state.omemo for each in listed] == [True]

    run_one(story)


def test_a_server_that_keeps_no_keys_is_told_of_once_and_served_in_the_clear(tmp_path: Path) -> None:
    async def story(stage: OmemoStage) -> None:
        async with (
            stage.open_desk([stage.sealing("Ada")], uses_rooms=False) as desk,
            stage.phone("ada", joins=False) as ada,
            stage.bridge(wants_rooms=False) as bridge,
        ):
            session = await start(desk, "hello")
            await ada.text("hello")
            await stage.cut(bridge, resumed=False)
            await stage.says(session, "hello again")
            await ada.text("hello again")
            ada.say("hello yourself")
            await stage.answered(session, "hello yourself")
            assert [got.body for got in ada.inbox].count(NO_KEYS) == 1

    with Prosody(accounts={}, without=("pep", "vcard4", "vcard_legacy", "bookmarks")) as server:  # they bring it along
        tell(story, server, tmp_path)


# ---- what each admin wishes ------------------------------------------------------------------------------------------


def test_prefer_is_plain_until_a_key_was_seen_and_never_after(run_one: Runner) -> None:
    async def story(stage: OmemoStage) -> None:
        async with (
            stage.open_desk([stage.sealing("Ada")], uses_rooms=False) as desk,
            stage.phone("ada", joins=False) as plain,
            stage.bridge(wants_rooms=False),
        ):
            session = await start(desk, "nobody has keys yet")
            await plain.text("nobody has keys yet")
            async with stage.omemo_phone(resource="other") as ada:
                await until(lambda: bool(ada.desk_presence))
                await stage.says(session, f"one {SECRET}")
                await ada.opened_part(f"one {SECRET}")
                keys = ada.keys
            await stage.show_empty_list("ada")
            await stage.says(session, f"two {SECRET}")
            await plain.text(WAITING.format(why=WHY[Why.VANISHED]))
            await stage.says(session, f"three {SECRET}")
            await until(lambda: len(desk.unacknowledged()) == 2)
            async with stage.omemo_phone(resource="other", keys=keys) as ada:
                await ada.opened_part(f"three {SECRET}")
                assert [words[-11:] for words in ada.opened] == [
                    f"] {each} {SECRET}"[-11:] for each in ("two", "three")
                ]
            assert not any(SECRET in got.body for got in plain.inbox)
            assert len([got for got in plain.inbox if "may only leave encrypted" in got.body]) == 1
            assert not stage.on_disk(SECRET)

    run_one(story)


def test_require_waits_for_keys_and_off_never_seals(run_one: Runner) -> None:
    async def story(stage: OmemoStage) -> None:
        admins = [stage.sealing("Ada", EndToEnd.REQUIRE), stage.sealing("Bert", EndToEnd.OFF)]
        async with (
            stage.open_desk(admins, uses_rooms=False) as desk,
            stage.phone("ada", joins=False) as plain,
            stage.omemo_phone("bert") as bert,
            stage.bridge(wants_rooms=False),
        ):
            session = await start(desk, "one for you")
            await plain.text(WAITING.format(why=WHY[Why.NO_DEVICE]))
            await bert.text("one for you")
            await stage.says(session, "two for you")
            await bert.text("two for you")
            await bert.say_sealed("you cannot read this")
            await bert.text(direct.ENCRYPTED)
            bert.say("but this")
            await stage.answered(session, "but this")
            assert bert.opened == []
            async with stage.omemo_phone("ada", resource="other") as ada:
                await ada.opened_part("two for you")
                mine = [words for words in ada.opened if words.startswith("[") and "for you" in words]
                assert [words.partition("] ")[2] for words in mine] == ["one for you", "two for you"]
            assert not any("for you" in got.body and "waits" not in got.body for got in plain.inbox)
            assert len([got for got in plain.inbox if "may only leave encrypted" in got.body]) == 1

    run_one(story)


def test_who_cannot_read_a_required_room_is_told_once(run_one: Runner) -> None:
    async def story(stage: OmemoStage) -> None:
        admins = [stage.sealing("Ada", EndToEnd.REQUIRE), stage.sealing("Bert")]
        async with (
            stage.open_desk(admins) as desk,
            stage.omemo_phone("ada") as ada,
            stage.phone("bert") as bert,
            stage.bridge(),
        ):
            session = await start(desk, f"one {SECRET}")
            room = await ada.room_words(f"one {SECRET}")
            await bert.text(UNREADABLE.format(why=WHY[Why.NO_DEVICE]))
            await stage.says(session, f"two {SECRET}")
            await ada.room_words(f"two {SECRET}")
            bert.room_say(room, "an answer in the clear")
            await stage.answered(session, "an answer in the clear")
            assert len([got for got in bert.inbox if "cannot read it" in got.body]) == 1
            assert not any(SECRET in body for body in (got.body for got in bert.room_inbox[room]))
            assert not stage.on_disk(SECRET)

    run_one(story)


# ---- new devices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [True, False])
def test_new_device_is_announced_and_held_where_that_is_wanted(run_one: Runner, strict: bool) -> None:
    async def story(stage: OmemoStage) -> None:
        stage.strict = strict
        async with (
            stage.open_desk([stage.sealing("Ada"), stage.sealing("Bert")]) as desk,
            stage.omemo_phone("ada") as ada,
            stage.omemo_phone("bert") as bert,
            stage.bridge(),
        ):
            session = await start(desk, "one")
            room = await ada.room_words("one")
            await bert.words("one")
            everyone = {stage.own, stage.jid("ada"), stage.jid("bert")}
            async with stage.omemo_phone("ada", resource="tablet") as tablet:
                told = await bert.opened_part("Ada has a new OMEMO device")
                await ada.opened_part("Ada has a new OMEMO device")
                digits = await tablet.fingerprint()
                assert digits[:8] in told
                assert ("!trust Ada" in told) is strict
                await stage.says(session, "two")
                await ada.words("two")
                await tablet.join(room, "tablet")
                if strict:
                    await tablet.when(lambda: bool(tablet.unopened))
                    await tablet.say_sealed("let me in")
                    await ada.words(NEW_DEVICE)
                    await bert.room_say_with(stage.staff_room(), f"!trust Ada {digits[:8]}", everyone)
                    await bert.opened_part("is confirmed.")
                else:
                    await tablet.room_words("two")
                await stage.says(session, "three")
                await tablet.words("three")
                await tablet.room_say_with(room, "from the tablet", everyone)
                await stage.answered(session, "from the tablet")
                assert len([words for words in bert.opened if "has a new OMEMO device" in words]) == 1

    run_one(story)


# ---- crashes and faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before it is on disk", "before the session has moved on"])
@pytest.mark.parametrize("in_room", [True, False])
def test_crash_while_a_line_is_opened_neither_loses_nor_doubles(run_one: Runner, moment: str, in_room: bool) -> None:
    async def story(stage: OmemoStage) -> None:
        reached = asyncio.Event()

        async def hangs(*_: Any, **__: Any) -> Any:
            reached.set()
            await asyncio.Event().wait()

        async with stage.open_desk([stage.sealing("Ada")], uses_rooms=in_room) as desk, stage.omemo_phone() as ada:

            async def say(text: str, room: str) -> None:
                if in_room:
                    await ada.room_say_with(room, text, {stage.own, stage.jid("ada")})
                else:
                    await ada.say_sealed(f"@{stage.alias(session)} {text}")

            async with crashing(stage, wants_rooms=in_room):
                session = await start(desk, "hello")
                await ada.opened_part("hello")
                room = stage.room(session) if in_room else ""
                await say("one", room)
                await stage.answered(session, "one")
                if moment == "before it is on disk":
                    desk.admin_says = hangs  # type: ignore[method-assign]
                    await say("two", room)
                    await reached.wait()
                else:
                    await quiet(stage)
                    desk.keep_omemo = hangs  # type: ignore[method-assign]
                    await say("two", room)
                    await reached.wait()
                    await stage.answered(session, "one", "two")
            with contextlib.suppress(AttributeError):
                del desk.admin_says
            with contextlib.suppress(AttributeError):
                del desk.keep_omemo
            async with stage.bridge(wants_rooms=in_room):
                await stage.answered(session, "one", "two")
                await say("three", room)
                await stage.answered(session, "one", "two", "three")
                await stage.says(session, "thanks")
                await ada.opened_part("thanks")
            assert stage.answers(session) == ["one", "two", "three"]
            assert not any("not" in words and "opened" in words for words in ada.opened)

    run_one(story)


def test_first_words_of_a_device_in_our_absence_open_in_chat_and_room(run: Runner) -> None:
    """All of them begin the same session, with the same pre key of ours."""

    async def story(stage: OmemoStage) -> None:
        admins = [stage.sealing("Ada"), stage.sealing("Bert")]
        async with stage.open_desk(admins) as desk, stage.omemo_phone("bert"), stage.omemo_phone("ada") as ada:
            async with stage.bridge():
                session = await start(desk, "hello")
                other = await start(desk, "hello there")
                room, second = await ada.room_words("hello"), await ada.room_words("hello there")
                await quiet(stage)
            async with stage.omemo_phone("ada", resource="tablet") as tablet:
                for each in (room, second):
                    await tablet.join(each, "tablet")
                everyone = {stage.own, stage.jid("ada"), stage.jid("bert")}
                await tablet.room_say_with(room, "one", everyone)
                await tablet.room_say_with(second, "two", everyone)
                await tablet.say_sealed("!list")
                await tablet.room_say_with(room, "three", everyone)
            async with stage.bridge():
                await stage.answered(session, "one", "three")
                await stage.answered(other, "two")
                listed = re.compile(rf"^{stage.alias(other)}(, request)?: ", re.MULTILINE)
                await until(lambda: any(map(listed.search, ada.opened)))
            assert not any("not be opened" in words for words in ada.opened)

    run(story)


@contextlib.asynccontextmanager
async def crashing(stage: OmemoStage, *, wants_rooms: bool) -> AsyncIterator[None]:
    """A bridge for the length of the block, then gone without a word."""
    task = asyncio.create_task(stage.made_bridge(wants_rooms=wants_rooms).run(asyncio.Event()))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def quiet(stage: OmemoStage) -> None:
    """Until nothing of ours is under way, and so nothing is about to be sealed."""
    await until(lambda: not stage.desk.unacknowledged() and not stage.desk.due(now=2e9))


class SealedRun(Run):
    """The same faults, end-to-end encrypted."""

    wants_rooms = True

    def _made(self) -> tuple[Bridge, asyncio.Task[None]]:
        bridge = Bridge(
            self._desk, self._account, on_change=lambda state: None, pace=CHAOS_PACE, wants_rooms=self.wants_rooms
        )
        return bridge, asyncio.create_task(bridge.run(asyncio.Event()))


class SealedChatRun(SealedRun):
    wants_rooms = False


LINES = 80  # each way


@pytest.mark.parametrize(("seed", "kind"), [(1, SealedRun), (2, SealedChatRun)])
def test_every_sealed_line_is_on_both_sides_once_and_in_order(
    run_one: Runner, seed: int, kind: type[SealedRun]
) -> None:
    async def story(stage: OmemoStage) -> None:
        await chaos(stage, seed, kind)

    run_one(story)


async def chaos(stage: OmemoStage, seed: int, kind: type[SealedRun]) -> None:
    in_room = kind.wants_rooms
    async with stage.open_desk([stage.sealing("Ada")], uses_rooms=in_room) as desk, stage.omemo_phone() as ada:
        run = kind(desk, stage.account(), stage.socks, random.Random(seed))
        desk.sites = FREELY
        session = await start(desk, "hello")
        await ada.opened_part("hello")
        room, alias = (stage.room(session) if in_room else ""), stage.alias(session)
        for number in range(LINES):
            await desk.visitor_says(session, f"o{number}", once=str(number).encode(), now=0)
            if in_room:
                await ada.room_say_with(room, f"i{number}", {stage.own, stage.jid("ada")})
            else:
                await ada.say_sealed(f"@{alias} i{number}")
            await run.step()
            run.check()
        stage.socks.thaw()

        def seen() -> list[str]:
            bodies = (words.rpartition("] ")[2] for words in ada.opened)
            return [body for body in bodies if body[:1] == "o" and body[1:].isdecimal()]

        outward, inward = [f"o{number}" for number in range(LINES)], [f"i{number}" for number in range(LINES)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(40):
                while set(outward) - set(seen()) or set(inward) - set(stage.answers(session)) or desk.unacknowledged():
                    run.check()
                    await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        print(
            f"seed {seed} {kind.__name__}: {LINES} lines each way, faults {dict(run.faults)}, unopened {ada.unopened}"
        )
        assert seen() == outward
        assert stage.answers(session) == inward
        assert ada.unopened == []
        await run.crash()


# ---- archives and disks ----------------------------------------------------------------------------------------------


def test_lines_that_no_archive_shall_keep_still_arrive(run_one: Runner) -> None:
    async def story(stage: OmemoStage) -> None:
        stage.keeps_archive = False
        async with (
            stage.open_desk([stage.sealing("Ada")]) as desk,
            stage.omemo_phone("ada") as ada,
            stage.bridge(),
        ):
            session = await start(desk, "one")
            await until(lambda: bool(ada.rooms))
            await stage.says(session, "two")
            room = await ada.room_words("two")
            await ada.room_say_with(room, "three", {stage.own, stage.jid("ada")})
            await stage.answered(session, "three")
            got = [each for each in ada.room_inbox[room] if each.nick == stage.alias(session) and each.body]
            assert got
            for each in got:
                assert each.element.find("{urn:xmpp:hints}no-store") is not None
                assert each.element.find("{urn:xmpp:hints}store") is None
            kept = await ada.room_archive(room)
            assert {each.nick for each in kept if each.element.find(ENVELOPE) is not None} == {"ada"}
            await until(lambda: not desk.unacknowledged())

    run_one(story)


def test_chat_lines_that_no_archive_shall_keep_still_arrive(run: Runner) -> None:
    async def story(stage: OmemoStage) -> None:
        stage.keeps_archive = False
        async with (
            stage.open_desk([stage.sealing("Ada")], uses_rooms=False) as desk,
            stage.omemo_phone("ada") as ada,
            stage.bridge(wants_rooms=False),
        ):
            session = await start(desk, "one")
            await ada.opened_part("one")
            said = await ada.say_sealed("two")
            await stage.answered(session, "two")
            await ada.when(lambda: said in ada.receipts)
            assert all(got.element.find("{urn:xmpp:hints}no-store") is not None for got in ada.inbox)
            assert FALLBACK not in await ada.archive()

    run(story)


def test_nothing_of_it_is_logged_or_stands_on_disk_in_the_clear(
    run_one: Runner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    marks: list[str] = []

    async def story(stage: OmemoStage) -> None:
        async with (
            stage.open_desk([stage.sealing("Ada")], uses_rooms=False) as desk,
            stage.omemo_phone("ada") as ada,
            stage.bridge(wants_rooms=False),
        ):
            session = await start(desk, f"one {SECRET}")
            await ada.opened_part(f"one {SECRET}")
            await ada.say_sealed(f"two {SECRET}")
            await stage.answered(session, f"two {SECRET}")
            await ada.say_sealed("garbled", Element("{jabber:client}x"))
            async with stage.omemo_phone("ada", resource="tablet"):
                await ada.opened_part("has a new OMEMO device")
            [own] = await ada.desk_fingerprints()
            marks.extend([SECRET, stage.jid("ada"), stage.own, own, await ada.fingerprint()])
            assert desk.omemo_entries()

    run_one(story)
    data = b"".join(file.read_bytes() for file in tmp_path.glob("veilsupport.sqlite*"))
    assert len(data) > 10_000
    for mark in marks:
        assert mark not in caplog.text
        assert mark.encode() not in data
    for fingerprint in marks[-2:]:
        assert bytes.fromhex(fingerprint) not in data


# ---- what does not open ----------------------------------------------------------------------------------------------


def test_what_does_not_open_is_answered_in_words_and_reaches_nobody(run_one: Runner) -> None:
    async def story(stage: OmemoStage) -> None:
        async with (
            stage.open_desk([stage.sealing("Ada")]) as desk,
            stage.omemo_phone("ada") as ada,
            stage.bridge(),
        ):
            session = await start(desk, "hello")
            room = await ada.room_words("hello")
            garbage = Element(ENVELOPE)
            SubElement(garbage, f"{{{OMEMO}}}payload").text = "AAAA"
            ada.room_say(room, "I sent you an OMEMO encrypted message", garbage)
            await ada.opened_part(f"⚙ {MALFORMED}")
            ada.say("I sent you an OMEMO encrypted message", garbage)
            await ada.words(MALFORMED)
            stage.jid("bert")
            async with stage.omemo_phone("bert"):
                await ada.room_say_with(room, "not for you", {stage.jid("bert")})
                await ada.opened_part(NOT_FOR_US)
            await ada.room_say_with(room, "fence", {stage.own, stage.jid("ada")})
            await stage.answered(session, "fence")

    run_one(story)


def test_lost_state_is_said_in_words(run_one: Runner) -> None:
    async def story(stage: OmemoStage) -> None:
        async with (
            stage.omemo_phone("ada") as ada,
            stage.open_desk([stage.sealing("Ada")], uses_rooms=False) as desk,
        ):
            async with stage.bridge(wants_rooms=False):
                session = await start(desk, "hello")
                await ada.opened_part("hello")
                await ada.say_sealed("one")
                await stage.answered(session, "one")
            await desk.keep_omemo(dict.fromkeys(desk.omemo_entries()))
            await ada.say_sealed("for the key that is gone")
            async with stage.bridge(wants_rooms=False):
                await ada.opened_part(NOT_FOR_US)
                await ada.say_sealed(f"@{stage.alias(session)} for the new one")
                await stage.answered(session, "one", "for the new one")

    run_one(story)


# ---- a client that is nobody's library -------------------------------------------------------------------------------


def test_profanity_speaks_omemo_with_the_desk(run_one: Runner) -> None:
    async def story(stage: OmemoStage) -> None:
        stage.jid("ada")
        name = stage.jid("ada").partition("@")[0]
        async with (
            stage.open_desk([stage.sealing("Ada")]) as desk,
            Profanity(stage.server, name, nick="ada") as ada,
            stage.bridge() as bridge,
        ):
            await ada.allow(stage.own)
            await ada.subscribe(stage.own)
            await ada.omemo_generate()
            assert bridge.state.omemo is not None
            await ada.chat(stage.own)
            await ada.omemo_start(stage.own)
            [fingerprint] = await ada.omemo_fingerprints(stage.own)
            assert fingerprint.replace("-", "") == bridge.state.omemo.rpartition("=")[2]
            await ada.omemo_trust(stage.own, fingerprint)
            await until(lambda: "(trusted)" in ada.screen())
            await ada.say(stage.own, "!omemo")
            if "cannot be decrypted" in await first_of(ada, "cannot be decrypted", "The desk's OMEMO fingerprint"):
                await asyncio.sleep(2)  # it fetches the keys again once they are trusted, and says nothing of it
                await ada.say(stage.own, "!omemo")
            await ada.until("The desk's OMEMO fingerprint")
            session = await start(desk, f"one {SECRET}")
            await until(lambda: desk.room_of(session.visitor.id) is not None)
            room = stage.room(session)
            while await ada.invited() != room:
                pass
            await ada.join(room)
            await ada.until(f"one {SECRET}")
            await ada.show(room)
            await ada.omemo_start()
            await ada.room_say(room, f"two {SECRET}")
            await stage.answered(session, f"two {SECRET}")
            await stage.says(session, f"three {SECRET}")
            await ada.until(f"three {SECRET}")
            assert not stage.on_disk(SECRET)

    run_one(story)
