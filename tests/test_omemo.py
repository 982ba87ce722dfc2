"""OMEMO by itself: what is on disk when, whom it trusts, what it says of what does not open. Both ends are ours here;
that others understand them is tests/live/test_omemo.py's."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.omemos import Disk, Party, Server, listing, news
from tests.xmppedge import in_loop, words
from veilsupport.errors import AdminError, Duplicate, StoreError, Unavailable
from veilsupport.model import Private
from veilsupport.xmpp import Account, Tls, Trust
from veilsupport.xmpp import omemo_terms as terms
from veilsupport.xmpp.line import Declined, Line
from veilsupport.xmpp.omemo import FALLBACK, DeviceTrust, Undecryptable, Why, is_sealed
from veilsupport.xmpp.omemo_entries import Entries

DESK, ADA, BERT = "desk@chat.example", "ada@chat.example", "bert@chat.example"
NS = "eu.siacs.conversations.axolotl"
DEVICES = f"{NS}.devicelist"


class Crash(Exception):
    pass


async def pair(*, strict: bool = False) -> tuple[Server, Party, Party]:
    """The desk and Ada, who have written to each other once."""
    server = Server()
    desk, ada = await Party(server, DESK, strict=strict).begin(), await Party(server, ADA).begin()
    assert await ada.opens(await desk.sealed("hello", ada), desk) == "hello"
    await desk.take_keys(ada)
    assert await desk.opens(await ada.sealed("hello yourself", desk), ada) == "hello yourself"
    desk.disk.log.clear()
    return server, desk, ada


async def again(party: Party, server: Server, *, strict: bool = False) -> Party:
    """The same account after a crash: nothing is left but what is on its disk now."""
    return Party(server, party.jid, Disk(party.disk.entries), strict=strict)


async def wrong(party: Party, message: Element, sender: Party) -> str:
    with pytest.raises(Undecryptable) as caught:
        await party.opens(message, sender)
    return caught.value.message


def in_a_loop(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test that runs in a loop of its own."""

    def test() -> None:
        in_loop(story)

    test.__name__, test.__doc__ = story.__name__, story.__doc__
    return test


# ---- what is on disk when --------------------------------------------------------------------------------------------


@in_a_loop
async def test_state_is_on_disk_before_anything_leaves() -> None:
    server = Server()
    desk, ada = Party(server, DESK), Party(server, ADA)
    await desk.begin()
    assert desk.disk.log[:3] == ["kept", "published", "published"]
    await ada.begin()
    ada.disk.log.clear()
    await ada.opens(await desk.sealed("hello", ada), desk)
    assert ada.disk.log == ["kept", "posted", "published"]


@in_a_loop
async def test_crash_after_encrypting_uses_no_key_twice() -> None:
    server, desk, ada = await pair()
    first = await desk.sealed("one", ada)
    after = await again(desk, server)
    second = await after.sealed("two", ada)
    assert [await ada.opens(each, desk) for each in (first, second)] == ["one", "two"]


@in_a_loop
async def test_nothing_is_encrypted_when_the_disk_refuses() -> None:
    _, desk, ada = await pair()
    desk.disk.refuses = True
    with pytest.raises(StoreError):
        await desk.sealed("one", ada)
    desk.disk.refuses = False
    assert await ada.opens(await desk.sealed("two", ada), desk) == "two"


@in_a_loop
async def test_block_that_raises_undoes_the_opening() -> None:
    server, desk, ada = await pair()
    stranger = await Party(server, BERT).begin()  # a first message, which builds a session, and one within it
    for sender in (stranger, ada):
        message = await sender.sealed("one", desk)
        before, log = dict(desk.disk.entries), list(desk.disk.log)
        with pytest.raises(Crash):
            async with desk.omemo.opening(message, sender.jid):
                raise Crash
        assert (desk.disk.entries, desk.disk.log) == (before, log)
        assert desk.line.posted == []
        assert await desk.opens(message, sender) == "one"
        with pytest.raises(Duplicate):
            await desk.opens(message, sender)
        desk.line.posted.clear()


@in_a_loop
async def test_crash_within_the_block_leaves_the_message_to_be_opened() -> None:
    server, desk, ada = await pair()
    message = await ada.sealed("one", desk)
    async with desk.omemo.opening(message, ADA):
        after = await again(desk, server)
    assert await after.opens(message, ada) == "one"
    assert await ada.opens(await after.sealed("two", ada), desk) == "two"


@in_a_loop
async def test_disk_that_refuses_after_the_block_undoes_the_opening() -> None:
    _, desk, ada = await pair()
    message = await ada.sealed("one", desk)
    desk.disk.refuses = True
    with pytest.raises(StoreError):
        await desk.opens(message, ada)
    desk.disk.refuses = False
    assert await desk.opens(message, ada) == "one"


@in_a_loop
async def test_words_that_are_on_disk_already_count_as_opened() -> None:
    server, desk, ada = await pair()
    message = await ada.sealed("one", desk)
    with pytest.raises(Duplicate):
        async with desk.omemo.opening(message, ADA):
            raise Duplicate("taken before")
    with pytest.raises(Duplicate):
        await (await again(desk, server)).opens(message, ada)


@in_a_loop
async def test_old_message_that_comes_again_breaks_nothing() -> None:
    """Its ratchet has turned since, so that the library takes it for a broken one."""
    server, desk, ada = await pair()
    old = await ada.sealed("one", desk)
    for text in ("one", "two", "three"):
        assert await desk.opens(old if text == "one" else await ada.sealed(text, desk), ada) == text
        await ada.opens(await desk.sealed("yes", ada), desk)
    for party in (desk, await again(desk, server)):
        with pytest.raises(Duplicate):
            await party.opens(old, ada)
        assert party.line.posted == []


@in_a_loop
async def test_messages_open_in_any_order() -> None:
    _, desk, ada = await pair()
    sent = [await ada.sealed(str(number), desk) for number in range(5)]
    assert [await desk.opens(message, ada) for message in reversed(sent)] == ["4", "3", "2", "1", "0"]


@in_a_loop
async def test_operations_wait_for_each_other() -> None:
    _, desk, ada = await pair()
    message = await ada.sealed("one", desk)
    async with desk.omemo.opening(message, ADA):
        sealing = asyncio.ensure_future(desk.sealed("two", ada))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not sealing.done()
    assert await ada.opens(await sealing, desk) == "two"


@in_a_loop
async def test_devices_that_write_while_the_archive_is_read_get_one_answer_each() -> None:
    server = Server()
    desk, ada = await Party(server, DESK).begin(), await Party(server, ADA).begin()
    sent = [await ada.sealed(text, desk) for text in ("one", "two")]
    await desk.omemo.start()
    assert [await desk.opens(message, ada) for message in sent] == ["one", "two"]
    assert desk.line.posted == []
    await desk.omemo.caught_up()
    assert await ada.take_keys(desk) == 1


@in_a_loop
async def test_connection_that_is_gone_is_said_and_changes_nothing() -> None:
    server = Server()
    desk, ada = await Party(server, DESK).begin(), await Party(server, ADA).begin()
    message = await ada.sealed("one", desk)
    before = dict(desk.disk.entries)
    with desk.offline():
        with pytest.raises(Unavailable):
            await desk.sealed("two", ada)
        with pytest.raises(Unavailable):
            await desk.opens(message, ada)
    assert desk.disk.entries == before
    assert await desk.opens(message, ada) == "one"


@pytest.mark.parametrize("node", ["devicelist", "bundles"])
def test_keys_that_a_break_kept_from_us_are_asked_for_again_in_the_same_session(node: str) -> None:
    async def story() -> None:
        server = Server()
        desk, ada = await Party(server, DESK).begin(), await Party(server, ADA).begin()
        ask = desk.line.ask

        async def breaks(
            kind: str, payload: Element, *, to: str = "", timeout_seconds: float = 30
        ) -> Element | Declined:
            if node in payload[0].get("node", ""):
                desk.line.up.clear()
            return await ask(kind, payload, to=to, timeout_seconds=timeout_seconds)

        desk.line.ask = breaks  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await desk.sealed("one", ada)
        desk.line.ask = ask  # type: ignore[method-assign]
        desk.line.up.set()
        assert await ada.opens(await desk.sealed("two", ada), desk) == "two"

    in_loop(story)


@pytest.mark.parametrize("node", ["devicelist", "bundles"])
def test_keys_that_were_not_waited_for_are_asked_for_again_in_the_same_session(node: str) -> None:
    async def story() -> None:
        server = Server()
        desk, ada = await Party(server, DESK).begin(), await Party(server, ADA).begin()
        hanging, ask = asyncio.Event(), desk.line.ask

        async def hangs(
            kind: str, payload: Element, *, to: str = "", timeout_seconds: float = 30
        ) -> Element | Declined:
            if node in payload[0].get("node", ""):
                hanging.set()
                await asyncio.Event().wait()
            return await ask(kind, payload, to=to, timeout_seconds=timeout_seconds)

        desk.line.ask = hangs  # type: ignore[method-assign]
        sealing = asyncio.create_task(desk.sealed("one", ada))
        await hanging.wait()
        sealing.cancel()
        await asyncio.wait([sealing])
        desk.line.ask = ask  # type: ignore[method-assign]
        assert await ada.opens(await desk.sealed("two", ada), desk) == "two"

    in_loop(story)


@in_a_loop
async def test_nothing_is_posted_while_the_line_is_down() -> None:
    _, desk, ada = await pair()
    ada.disk.entries = {key: value for key, value in ada.disk.entries.items() if not key.endswith("double_ratchet")}
    ada = await Party(ada.server, ADA, ada.disk).begin()
    message = await ada.sealed("by a new session", desk)
    with desk.offline():
        assert await desk.opens(message, ada) == "by a new session"
    assert desk.line.posted == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("put delete flush undo refuse".split()), st.sampled_from("abc"), st.text())))
def test_entries_are_a_dict_that_can_go_back(steps: list[tuple[str, str, str]]) -> None:
    async def story() -> None:
        disk = Disk({"a": "kept"})
        entries, model, kept = Entries(disk), {"a": "kept"}, {"a": "kept"}
        for step, key, value in steps:
            match step:
                case "put":
                    entries.put(key, value)
                    model[key] = value
                case "delete":
                    entries.put(key, None)
                    model.pop(key, None)
                case "flush":
                    await entries.flush()
                    kept = dict(model)
                case "undo":
                    entries.undo()
                    model = dict(kept)
                case "refuse" if model != kept:
                    disk.refuses = True
                    with pytest.raises(StoreError):
                        await entries.flush()
                    disk.refuses, model = False, dict(kept)
            assert entries.below("") == model
            assert {each: entries.get(each) for each in "abc"} == {each: model.get(each) for each in "abc"}
            assert disk.entries == kept

    in_loop(story)


# ---- trust -----------------------------------------------------------------------------------------------------------


@in_a_loop
async def test_first_devices_are_trusted_without_a_word() -> None:
    server = Server()
    ada, tablet = await Party(server, ADA).begin(), await Party(server, ADA).begin()
    server.nodes[ADA, DEVICES] = listing(ada.omemo.device_id, tablet.omemo.device_id)
    desk = await Party(server, DESK, strict=True).begin()
    message = await desk.sealed("to both", ada)
    assert [await each.opens(message, desk) for each in (ada, tablet)] == ["to both", "to both"]
    assert desk.told == []
    trusts = {each.id: (each.fingerprint, each.trust, each.active) for each in await desk.omemo.devices(ADA)}
    assert trusts == {
        each.omemo.device_id: (each.omemo.fingerprint, DeviceTrust.TRUSTED, True) for each in (ada, tablet)
    }


async def _with_tablet(*, strict: bool) -> tuple[Server, Party, Party, Party]:
    """Ada's list has got a second device, and the desk has heard of it."""
    server, desk, ada = await pair(strict=strict)
    tablet = await Party(server, ADA).begin()
    server.nodes[ADA, DEVICES] = listing(ada.omemo.device_id, tablet.omemo.device_id)
    assert await desk.omemo.hear(news(ADA, server))
    return server, desk, ada, tablet


@pytest.mark.parametrize("strict", [True, False])
def test_later_device_is_told_once(strict: bool) -> None:
    async def story() -> None:
        server, desk, _, tablet = await _with_tablet(strict=strict)
        [new] = desk.told
        assert (new.jid, new.device_id, new.fingerprint) == (ADA, tablet.omemo.device_id, tablet.omemo.fingerprint)
        assert new.held is strict
        await desk.omemo.hear(news(ADA, server))
        assert len(desk.told) == 1
        after = await again(desk, server, strict=strict)
        await after.begin()
        await after.omemo.hear(news(ADA, server))
        assert after.told == []

    in_loop(story)


@in_a_loop
async def test_desk_that_crashed_before_it_told_tells_when_it_is_back() -> None:
    server, desk, ada = await pair()
    tablet = await Party(server, ADA).begin()
    server.nodes[ADA, DEVICES] = listing(ada.omemo.device_id, tablet.omemo.device_id)

    def crash(_: object) -> None:
        raise Crash

    desk.omemo._told = crash
    with pytest.raises(Crash):
        await desk.omemo.hear(news(ADA, server))
    after = await (await again(desk, server)).begin()
    assert [each.device_id for each in after.told] == [tablet.omemo.device_id]


@in_a_loop
async def test_strict_desk_neither_writes_to_nor_opens_from_a_held_device() -> None:
    _, desk, ada, tablet = await _with_tablet(strict=True)
    message = await desk.sealed("one", ada)
    assert await ada.opens(message, desk) == "one"
    assert await wrong(tablet, message, desk) == terms.NOT_FOR_US
    assert await wrong(desk, await tablet.sealed("two", desk), tablet) == terms.NEW_DEVICE
    confirmed = await desk.omemo.trust(ADA, tablet.omemo.device_id)
    assert (confirmed.id, confirmed.trust) == (tablet.omemo.device_id, DeviceTrust.TRUSTED)
    message = await desk.sealed("three", ada)
    assert [await each.opens(message, desk) for each in (ada, tablet)] == ["three", "three"]
    assert await desk.opens(await tablet.sealed("four", desk), tablet) == "four"


@in_a_loop
async def test_desk_that_is_not_strict_goes_on_with_a_later_device() -> None:
    _, desk, ada, tablet = await _with_tablet(strict=False)
    message = await desk.sealed("one", ada)
    assert [await each.opens(message, desk) for each in (ada, tablet)] == ["one", "one"]
    assert await desk.opens(await tablet.sealed("two", desk), tablet) == "two"


@in_a_loop
async def test_distrusted_device_is_shut_out() -> None:
    _, desk, ada = await pair()
    await desk.omemo.distrust(ADA, ada.omemo.fingerprint)
    assert await wrong(desk, await ada.sealed("one", desk), ada) == terms.DISTRUSTED_DEVICE
    stanza = Element("{jabber:client}message", to=ADA)
    SubElement(stanza, "{jabber:client}body").text = "two"
    sealed = await desk.omemo.encrypt(stanza, [ADA])
    assert (sealed.message, sealed.unreachable) == (None, {ADA: Why.HELD})


@in_a_loop
async def test_device_is_named_by_id_or_by_enough_of_its_fingerprint() -> None:
    _, desk, ada = await pair()
    digits = ada.omemo.fingerprint
    for which in (
        ada.omemo.device_id,
        digits,
        digits[:8],
        f"{digits[:8]} {digits[8:16]}".upper(),
    ):
        assert (await desk.omemo.trust(ADA, which)).id == ada.omemo.device_id
    for which in (digits[:7], "", 1, "x" * 64, str(ada.omemo.device_id)):  # servers choose ids
        with pytest.raises(AdminError):
            await desk.omemo.trust(ADA, which)


def _with_identity_of(server: Server, ada: Party, other: Party) -> None:
    """Ada's server shows another's bundle under the id of her device."""
    theirs = server.nodes[ADA, f"{NS}.bundles:{other.omemo.device_id}"]
    server.nodes[ADA, f"{NS}.bundles:{ada.omemo.device_id}"] = theirs


@pytest.mark.parametrize("strict", [True, False])
def test_other_identity_key_under_a_known_id_is_a_new_device_to_write_to(strict: bool) -> None:
    async def story() -> None:
        server = Server()
        ada, other = await Party(server, ADA).begin(), await Party(server, ADA).begin()
        server.nodes[ADA, DEVICES] = listing(ada.omemo.device_id)
        desk = await Party(server, DESK, strict=strict).begin()
        [pinned] = await desk.omemo.devices(ADA)
        assert pinned.fingerprint == ada.omemo.fingerprint
        _with_identity_of(server, ada, other)
        stanza = Element("{jabber:client}message", to=ADA)
        SubElement(stanza, "{jabber:client}body").text = "for Ada"
        assert (await desk.omemo.encrypt(stanza, [ADA])).message is None  # not by the key that was not the pinned one
        sealed = await desk.omemo.encrypt(stanza, [ADA])
        assert [(each.fingerprint, each.held) for each in desk.told] == [(other.omemo.fingerprint, strict)]
        assert dict(sealed.unreachable) == ({ADA: Why.HELD} if strict else {})

    in_loop(story)


@pytest.mark.parametrize("strict", [True, False])
def test_other_identity_key_under_a_known_id_is_a_new_device_to_read_from(strict: bool) -> None:
    async def story() -> None:
        server, desk, ada = await pair(strict=strict)
        other = await Party(server, ADA).begin()
        message = await other.sealed("I am Ada, really", desk)
        header = message.find(f"{{{NS}}}encrypted/{{{NS}}}header")
        assert header is not None
        header.set("sid", str(ada.omemo.device_id))
        assert await wrong(desk, message, ada) == terms.MALFORMED  # the server still shows Ada's key
        assert await desk.opens(await ada.sealed("still here", desk), ada) == "still here"
        _with_identity_of(server, ada, other)
        if strict:
            assert await wrong(desk, message, ada) == terms.NEW_DEVICE
            await desk.omemo.trust(ADA, other.omemo.fingerprint)
            [key] = (await desk.sealed("by a new session", ada)).iter(f"{{{NS}}}key")
            assert key.get("prekey") == "true"
        else:
            assert await desk.opens(message, ada) == "I am Ada, really"
        assert [(each.fingerprint, each.held) for each in desk.told] == [(other.omemo.fingerprint, strict)]

    in_loop(story)


@in_a_loop
async def test_other_devices_of_our_own_account_are_put_off_its_list_and_never_written_to() -> None:
    server, desk, ada = await pair()
    ghost = await Party(server, DESK).begin()
    server.nodes[DESK, DEVICES] = listing(ghost.omemo.device_id, desk.omemo.device_id)
    await desk.omemo.hear(news(DESK, server))
    assert "published" not in desk.disk.log
    keys = (await desk.sealed("one", ada)).iter(f"{{{NS}}}key")
    assert [key.get("rid") for key in keys] == [str(ada.omemo.device_id)]
    assert desk.omemo._loaded is not None  # even if it were known
    await desk.omemo._loaded[1].update_device_list(
        NS, DESK, dict.fromkeys((ghost.omemo.device_id, desk.omemo.device_id))
    )
    keys = (await desk.sealed("two", ada)).iter(f"{{{NS}}}key")
    assert [key.get("rid") for key in keys] == [str(ada.omemo.device_id)]
    server.nodes[DESK, DEVICES] = listing(ghost.omemo.device_id)
    await desk.omemo.hear(news(DESK, server))
    assert [each.get("id") for each in server.nodes[DESK, DEVICES]] == [str(desk.omemo.device_id)]


# ---- who is reached --------------------------------------------------------------------------------------------------


async def _unreachable(desk: Party, *jids: str) -> dict[str, Why]:
    stanza = Element("{jabber:client}message", to=jids[0])
    SubElement(stanza, "{jabber:client}body").text = "words"
    return dict((await desk.omemo.encrypt(stanza, jids)).unreachable)


@in_a_loop
async def test_reasons_for_not_being_reached() -> None:
    server, desk, ada = await pair()
    assert await _unreachable(desk, ADA, BERT) == {BERT: Why.NO_DEVICE}
    server.nodes["carl@chat.example", DEVICES] = listing(7)  # on the list, without keys
    server.silent.add("dora@chat.example")
    assert await _unreachable(desk, "carl@chat.example") == {"carl@chat.example": Why.NO_DEVICE}
    assert await _unreachable(desk, "dora@chat.example") == {"dora@chat.example": Why.UNREACHED}
    server.nodes[ADA, DEVICES] = listing()
    await desk.omemo.hear(news(ADA, server))
    assert await _unreachable(desk, ADA) == {ADA: Why.VANISHED}
    server.nodes[ADA, DEVICES] = listing(ada.omemo.device_id)
    await desk.omemo.hear(news(ADA, server))
    assert await _unreachable(desk, ADA) == {}


@in_a_loop
async def test_servers_are_not_asked_the_same_again() -> None:
    server, desk, ada = await pair()
    server.nodes[ADA, DEVICES] = listing(ada.omemo.device_id, 7)  # 7 has no keys
    await desk.omemo.hear(news(ADA, server))
    await desk.sealed("one", ada)
    server.asked.clear()
    for _ in range(3):
        await desk.sealed("two", ada)
        assert await desk.opens(await ada.sealed("three", desk), ada) == "three"
    assert [jid for jid, _ in server.asked if jid != DESK] == []
    await desk.begin()
    await desk.sealed("four", ada)
    assert (ADA, DEVICES) in server.asked


@in_a_loop
async def test_what_was_known_of_a_silent_server_goes_on() -> None:
    server, desk, ada = await pair()
    server.silent.add(ADA)
    await desk.begin()
    assert await ada.opens(await desk.sealed("one", ada), desk) == "one"


@in_a_loop
async def test_long_list_is_cut() -> None:
    server, desk, _ = await pair()
    server.nodes[BERT, DEVICES] = listing(*range(1, 10_000))
    server.asked.clear()
    await desk.omemo.hear(news(BERT, server))
    assert len(server.asked) == 50


# ---- the stanza ------------------------------------------------------------------------------------------------------


@in_a_loop
async def test_sealed_stanza_shows_nothing_of_the_words() -> None:
    _, desk, ada = await pair()
    plain = fromstring(  # noqa: S314 - our own text
        f"<message xmlns='jabber:client' to='{ADA}' type='chat' id='x1'><body>secret</body>"
        "<origin-id xmlns='urn:xmpp:sid:0' id='x1'/><request xmlns='urn:xmpp:receipts'/>"
        "<replace xmlns='urn:xmpp:message-correct:0' id='x0'/><html xmlns='any'>secret</html></message>"
    )
    sealed = (await desk.omemo.encrypt(plain, [ADA])).message
    assert sealed is not None
    assert dict(sealed.attrib) == {"to": ADA, "type": "chat", "id": "x1"}
    assert b"secret" not in tostring(sealed)
    assert [each.tag.rpartition("}")[2] for each in sealed] == [
        *("body", "encrypted", "encryption", "origin-id", "request", "replace", "store")
    ]
    assert sealed.findtext("{jabber:client}body") == FALLBACK
    encryption = sealed.find("{urn:xmpp:eme:0}encryption")
    assert encryption is not None
    assert encryption.get("namespace") == NS
    assert b"secret" in tostring(plain)
    assert await ada.opens(sealed, desk) == "secret"


@in_a_loop
async def test_stanza_that_shall_not_be_stored_says_so_still() -> None:
    _, desk, _ = await pair()
    plain = Element("{jabber:client}message", to=ADA)
    SubElement(plain, "{jabber:client}body").text = "words"
    SubElement(plain, "{urn:xmpp:hints}no-store")
    sealed = (await desk.omemo.encrypt(plain, [ADA])).message
    assert sealed is not None
    assert sealed.find("{urn:xmpp:hints}no-store") is not None
    assert sealed.find("{urn:xmpp:hints}store") is None


@in_a_loop
async def test_newer_envelope_beside_ours_is_not_looked_at() -> None:
    _, desk, ada = await pair()
    message = await ada.sealed("one", desk)
    message.insert(0, Element("{urn:xmpp:omemo:2}encrypted"))
    assert await desk.opens(message, ada) == "one"
    alone = Element("{jabber:client}message")
    SubElement(alone, "{urn:xmpp:omemo:2}encrypted")
    assert not is_sealed(alone)


# ---- what does not open ----------------------------------------------------------------------------------------------


@in_a_loop
async def test_desk_that_lost_its_state_says_what_to_do() -> None:
    server, desk, ada = await pair()
    message = await ada.sealed("one", desk)
    blank = await Party(server, DESK).begin()
    assert blank.omemo.fingerprint != desk.omemo.fingerprint
    assert await wrong(blank, message, ada) == terms.NOT_FOR_US
    await ada.omemo.hear(news(DESK, server))
    assert await blank.opens(await ada.sealed("two", desk), ada) == "two"


@in_a_loop
async def test_broken_session_is_begun_anew_once() -> None:
    _, desk, ada = await pair()
    for _ in range(2):
        assert desk.omemo._loaded is not None
        entries, _ = desk.omemo._loaded
        entries.put(f"/{NS}/{ADA}/{ada.omemo.device_id}/double_ratchet", None)
        for _ in range(3):
            assert await wrong(desk, await ada.sealed("one", desk), ada) == terms.BROKEN
        assert await ada.take_keys(desk) == 1
        assert await desk.opens(await ada.sealed("two", desk), ada) == "two"
        assert await ada.opens(await desk.sealed("three", ada), desk) == "three"
        await desk.take_keys(ada)


async def beside(ada: Party, desk: Party) -> tuple[Party, Element]:
    """Her device as it was before it wrote that line, as a backup of it or a second writer on it would be."""
    earlier = Party(ada.server, ADA, Disk(ada.disk.entries))
    return earlier, await ada.sealed("one", desk)


@in_a_loop
async def test_other_words_under_a_used_key_are_asked_for_again_and_the_session_goes_on() -> None:
    _, desk, ada = await pair()
    earlier, first = await beside(ada, desk)
    assert await desk.opens(first, ada) == "one"
    other, following = await earlier.sealed("two", desk), await earlier.sealed("three", desk)
    for _ in range(2):  # the same one again, out of the archive, is no second
        assert await wrong(desk, other, ada) == terms.REUSED
    assert desk.line.posted == []
    with pytest.raises(Duplicate):
        await desk.opens(first, ada)
    assert await desk.opens(following, ada) == "three"
    assert await desk.opens(await earlier.sealed("two", desk), ada) == "two"


@in_a_loop
async def test_device_that_goes_on_with_used_keys_gets_a_new_session() -> None:
    _, desk, ada = await pair()
    for _ in range(2):
        earlier, first = await beside(ada, desk)
        sent = [first, *[await ada.sealed(text, desk) for text in ("two", "three", "four")]]
        assert [await desk.opens(message, ada) for message in sent] == ["one", "two", "three", "four"]
        told = [await wrong(desk, await earlier.sealed("other words", desk), ada) for _ in range(3)]
        assert told == [terms.REUSED, terms.BROKEN, terms.BROKEN]
        assert await earlier.take_keys(desk) == 1
        assert await desk.opens(await earlier.sealed("other words", desk), ada) == "other words"
        assert await earlier.opens(await desk.sealed("understood", earlier), desk) == "understood"
        await desk.take_keys(earlier)
        ada = earlier


@in_a_loop
async def test_keys_without_words_under_a_used_key_are_nothing() -> None:
    """A phone that opens several lines at once answers each with the same key."""
    server = Server()
    desk, ada = await Party(server, DESK).begin(), Party(server, ADA)
    await ada.omemo.start()
    assert await ada.opens(await desk.sealed("hello", ada), desk) == "hello"
    earlier = await Party(server, ADA, Disk(ada.disk.entries)).begin()  # which sends the answer that is due
    await ada.omemo.caught_up()
    [first], [other] = ada.line.posted, earlier.line.posted
    assert await desk.opens(first, ada) == ""
    assert await desk.opens(await ada.sealed("hello yourself", desk), ada) == "hello yourself"
    assert await desk.opens(other, ada) == ""
    assert await wrong(desk, await earlier.sealed("me, too", desk), ada) == terms.REUSED  # the first that counts
    assert desk.line.posted == []


@in_a_loop
async def test_keys_without_words_are_not_worth_a_word() -> None:
    server, desk, _ada = await pair()
    before = dict(desk.disk.entries)
    stranger = await Party(server, BERT).begin()
    await stranger.opens(await desk.sealed("one", stranger), desk)
    [keys] = stranger.line.posted
    blank = await Party(server, "other@chat.example").begin()
    assert await blank.opens(keys, stranger) == ""
    assert await desk.opens(keys, stranger) == ""
    assert desk.disk.entries != before


@in_a_loop
async def test_sender_without_keys_is_unknown() -> None:
    server, desk, _ada = await pair()
    ghost = await Party(server, BERT).begin()
    message = await ghost.sealed("one", desk)
    del server.nodes[BERT, DEVICES]
    assert await wrong(desk, message, ghost) == terms.UNKNOWN_DEVICE


def _broken(message: Element, where: int, character: str) -> Element:
    """One character of the envelope's texts and attributes replaced."""
    broken = copy.deepcopy(message)
    envelope = broken.find(f"{{{NS}}}encrypted")
    assert envelope is not None
    places: list[tuple[Element, str | None]] = []
    for each in envelope.iter():
        places += [(each, None)] if each.text else []
        places += [(each, name) for name in each.attrib]
    element, name = places[where % len(places)]
    old = (element.text if name is None else element.get(name)) or ""
    cut = where // len(places) % (len(old) + 1)
    new = old[:cut] + character + old[cut + 1 :]
    if name is None:
        element.text = new
    else:
        element.set(name, new)
    return broken


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.sampled_from(["", "A", "/", "=", "0", "9", "-", "ö", " "])), max_size=20
    )
)
def test_broken_envelope_is_undecryptable_and_nothing_else(cuts: list[tuple[int, str]]) -> None:
    async def story() -> None:
        server, desk, ada = await pair()
        bert = await Party(server, BERT).begin()
        for sender in (ada, bert):
            message = await sender.sealed("one", desk)
            for where, character in cuts:
                broken = _broken(message, where, character)
                try:
                    assert await desk.opens(broken, sender) in ("one", "")
                except (Undecryptable, Duplicate):
                    pass
            assert await ada.opens(await desk.sealed("two", ada), desk) == "two"

    in_loop(story)


@pytest.mark.parametrize("path", ["header", "header/iv", "payload", "header/key"])
def test_envelope_that_lacks_a_part_is_undecryptable(path: str) -> None:
    async def story() -> None:
        _, desk, ada = await pair()
        message = await ada.sealed("one", desk)
        envelope = message.find(f"{{{NS}}}encrypted")
        assert envelope is not None
        parent, _, name = path.rpartition("/")
        holder = envelope.find(f"{{{NS}}}{parent}") if parent else envelope
        assert holder is not None
        part = holder.find(f"{{{NS}}}{name}")
        assert part is not None
        part.text = ""
        message_with_empty = copy.deepcopy(message)
        holder.remove(part)
        for each in (message_with_empty, message):
            try:
                assert await desk.opens(each, ada) in ("", "one")  # a header has no text of its own
            except Undecryptable:
                pass

    in_loop(story)


@in_a_loop
async def test_no_schema_is_fetched_because_an_envelope_names_one() -> None:
    _, desk, ada = await pair()
    message = await ada.sealed("one", desk)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        where = f"http://127.0.0.1:{listener.getsockname()[1]}/x.xsd"
        for namespace in (NS, "urn:other"):
            envelope = message.find(f"{{{NS}}}encrypted")
            assert envelope is not None
            envelope.set("{http://www.w3.org/2001/XMLSchema-instance}schemaLocation", f"{namespace} {where}")
            try:
                await desk.opens(message, ada)
            except (Undecryptable, Duplicate):
                pass
        with pytest.raises(BlockingIOError):
            listener.accept()


# ---- our own keys ----------------------------------------------------------------------------------------------------


@in_a_loop
async def test_keys_are_published_when_they_are_not_there_and_only_then() -> None:
    server = Server()
    desk = Party(server, DESK)
    await desk.omemo.load()
    assert desk.omemo.uri == f"xmpp:{DESK}?omemo-sid-{desk.omemo.device_id}={desk.omemo.fingerprint}"
    assert len(desk.omemo.fingerprint) == 64
    assert server.nodes == {}
    await desk.begin()
    assert {node for _, node in server.nodes} == {DEVICES, f"{NS}.bundles:{desk.omemo.device_id}"}
    desk.disk.log.clear()
    await desk.begin()
    assert "published" not in desk.disk.log
    del server.nodes[DESK, f"{NS}.bundles:{desk.omemo.device_id}"]
    await desk.begin()
    assert desk.disk.log.count("published") == 1


@in_a_loop
async def test_server_that_keeps_no_keys_is_asked_once() -> None:
    server = Server()
    desk, ada = Party(server, DESK), await Party(server, ADA).begin()
    desk.line.refuses = True
    with pytest.raises(Unavailable) as caught:
        await desk.omemo.start()
    assert not caught.value.temporary
    await desk.omemo.caught_up()
    desk.line.refuses = False
    await desk.sealed("one", ada)
    assert "published" not in desk.disk.log


@in_a_loop
async def test_node_that_was_made_with_other_settings_is_set_right() -> None:
    server = Server()
    desk = Party(server, DESK)
    desk.line.is_configured_otherwise = True
    await desk.begin()
    assert len(server.nodes) == 2


@in_a_loop
async def test_bundle_made_to_do_harm_is_no_bundle() -> None:
    server, desk, _ada = await pair()
    bert = await Party(server, BERT).begin()
    for key in server.nodes[BERT, f"{NS}.bundles:{bert.omemo.device_id}"].iter(f"{{{NS}}}preKeyPublic"):
        key.text = base64.b64encode(b"\x05" + bytes(32)).decode()
    assert await _unreachable(desk, BERT) == {BERT: Why.UNREACHED}


@in_a_loop
async def test_signed_pre_key_is_changed_every_week_and_the_old_one_still_opens() -> None:
    server, desk, _ = await pair()
    late = await Party(server, BERT).begin()
    message = await late.sealed("by the old key", desk)
    key = f"/{NS}/x3dh"
    state = json.loads(desk.disk.entries[key])
    week = 7 * 24 * 3600
    state["signed_pre_key"]["timestamp"] -= week + 1
    bundle = server.nodes[DESK, f"{NS}.bundles:{desk.omemo.device_id}"]
    older = Party(server, DESK, Disk({**desk.disk.entries, key: json.dumps(state)}))
    await older.begin()
    signed = f"{{{NS}}}signedPreKeyPublic"
    assert server.nodes[DESK, f"{NS}.bundles:{desk.omemo.device_id}"].findtext(signed) != bundle.findtext(signed)
    assert await older.opens(message, late) == "by the old key"


async def aged(party: Party, *, by_seconds: int) -> None:
    """Its signed pre key is so much older than it was."""
    entries, _ = party.omemo._loaded or await party.omemo._load()
    state = json.loads(entries.get(f"/{NS}/x3dh") or "")
    state["signed_pre_key"]["timestamp"] -= by_seconds
    entries.put(f"/{NS}/x3dh", json.dumps(state))


def signed_key(party: Party) -> str:
    state = json.loads(party.disk.entries[f"/{NS}/x3dh"])
    return str(state["signed_pre_key"]["priv"])


@in_a_loop
async def test_age_of_the_signed_pre_key_is_not_asked_for_with_each_line() -> None:
    _, desk, ada = await pair()
    sessions = desk.omemo._sessions
    asked = 0
    age = sessions._backend.signed_pre_key_age

    async def counted() -> int:
        nonlocal asked
        asked += 1
        return await age()

    sessions._backend.signed_pre_key_age = counted  # type: ignore[method-assign]
    for text in ("one", "two", "three"):
        await desk.sealed(text, ada)
    assert asked == 0
    await desk.omemo.start()
    assert asked == 1


@in_a_loop
async def test_signed_pre_key_becomes_no_older_for_that() -> None:
    server, desk, _ = await pair()
    await aged(desk, by_seconds=7 * 24 * 3600 - 100)
    before = signed_key(desk)
    await desk.omemo.start()
    assert desk.omemo._sessions._ask_age_at <= asyncio.get_running_loop().time() + 100
    await aged(desk, by_seconds=101)
    desk.omemo._sessions._ask_age_at -= 101  # so much later
    await desk.omemo.encrypt(words("to whoever"), [BERT])  # who has no devices
    assert signed_key(desk) != before
    assert server.nodes[DESK, f"{NS}.bundles:{desk.omemo.device_id}"] is not None


@in_a_loop
async def test_signed_pre_key_that_did_not_reach_the_disk_is_made_again() -> None:
    _, desk, ada = await pair()
    before = signed_key(desk)
    await aged(desk, by_seconds=7 * 24 * 3600 + 1)
    await desk.omemo._loaded[0].flush()  # type: ignore[index]
    desk.omemo._sessions._ask_age_at = 0.0
    desk.disk.refuses = True
    with pytest.raises(StoreError):
        await desk.sealed("one", ada)
    desk.disk.refuses = False
    assert await ada.opens(await desk.sealed("two", ada), desk) == "two"
    assert signed_key(desk) != before


# ---- the rest --------------------------------------------------------------------------------------------------------


@in_a_loop
async def test_news_counts_only_from_the_account_itself() -> None:
    server, desk, ada = await pair()
    server.nodes[BERT, DEVICES] = listing(7)
    for attribute, value in (("from", f"{BERT}/phone"), ("type", "groupchat"), ("from", "")):
        message = news(BERT, server)
        message.set(attribute, value)
        await desk.omemo.hear(message)
    stranger = news(BERT, server)
    desk.line.is_admin = lambda jid: False  # type: ignore[method-assign]
    assert await desk.omemo.hear(stranger)
    assert not any("bert" in key for key in desk.disk.entries)
    assert not await desk.omemo.hear(await ada.sealed("one", desk))
    assert desk.line.wanted == [DEVICES]


@in_a_loop
async def test_presence_to_all_says_what_we_want_to_hear_of() -> None:
    account = Account(Private(DESK), Private("pw"), "127.0.0.1", tls=Tls.NONE, trust=Trust.ANY)
    line = Line(account, admins=[ADA], credentials=("a", "b"), dial_seconds=1, hear=lambda signal: None)
    caps = "{http://jabber.org/protocol/caps}c"
    assert line._with_capabilities(line.make_presence()).xml.find(caps) is None
    line.want_news_of(DEVICES)
    [announced] = line._with_capabilities(line.make_presence()).xml.findall(caps)
    node = f"{announced.get('node')}#{announced.get('ver')}"
    info = await line.plugin["xep_0030"].get_info(node=node, local=True)
    assert f"{DEVICES}+notify" in info["features"]
    for directed in (line.make_presence(pto=ADA), line.make_presence(ptype="unavailable")):
        assert line._with_capabilities(directed).xml.find(caps) is None
    line.drop()


def test_library_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        _, desk, ada = await pair()
        message = await desk.sealed("secret", ada)
        await wrong(desk, message, ada)
        await ada.opens(message, desk)

    with caplog.at_level(logging.DEBUG):
        in_loop(story)
    assert [record.name for record in caplog.records if record.name != "asyncio"] == []


def test_library_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, veilsupport.xmpp.omemo; print([each for each in ('omemo', 'oldmemo') if each in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
