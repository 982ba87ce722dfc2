"""OMEMO after a restore: nothing is used twice, nothing is lost, and nobody has to confirm anything again."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

import pytest

from tests.omemos import Disk, Party, Server
from tests.test_omemo import ADA, DESK, in_a_loop, pair
from tests.xmppedge import in_loop
from veilsupport.errors import VeilError
from veilsupport.xmpp.omemo import DeviceTrust
from veilsupport.xmpp.omemo_renewal import renew

NS = "eu.siacs.conversations.axolotl"


async def talk(desk: Party, ada: Party, text: str) -> None:
    assert await ada.opens(await desk.sealed(f"{text} out", ada), desk) == f"{text} out"
    await desk.take_keys(ada)
    assert await desk.opens(await ada.sealed(f"{text} back", desk), ada) == f"{text} back"


async def restored(server: Server, entries: Mapping[str, str]) -> Party:
    """The desk out of a backup, before it has seen its server."""
    desk = Party(server, DESK, Disk(entries), strict=True)
    await renew(desk.disk)
    return desk


def ids(bundle: Element) -> set[int]:
    return {int(key.get("preKeyId", "")) for key in bundle.iter(f"{{{NS}}}preKeyPublic")}


@in_a_loop
async def test_messages_go_both_ways_after_a_restore() -> None:
    server, desk, ada = await pair(strict=True)
    backup = dict(desk.disk.entries)
    for number in range(3):
        await talk(desk, ada, f"{number}")
    fingerprint, device_id = desk.omemo.fingerprint, desk.omemo.device_id
    [before] = await desk.omemo.devices(ADA)
    node = (DESK, f"{NS}.bundles:{device_id}")
    old_bundle = server.nodes[node]

    after = await (await restored(server, backup)).begin()
    assert (after.omemo.fingerprint, after.omemo.device_id) == (fingerprint, device_id)
    assert await after.omemo.devices(ADA) == [before]
    assert before.trust is DeviceTrust.TRUSTED
    assert after.told == []
    assert len(ids(server.nodes[node])) == len(ids(old_bundle)) == 100
    assert min(ids(server.nodes[node])) > max(ids(old_bundle)) + 10_000  # which it may have given out since
    assert await ada.take_keys(after) == 1  # the desk begins, before anyone has written
    assert await after.opens(await ada.sealed("the phone first", after), ada) == "the phone first"
    await talk(after, ada, "again")


@in_a_loop
async def test_desk_may_write_first_after_a_restore() -> None:
    server, desk, ada = await pair()
    backup = dict(desk.disk.entries)
    await talk(desk, ada, "since")
    after = await restored(server, backup)
    await after.omemo.start()
    assert await ada.opens(await after.sealed("hello again", ada), after) == "hello again"
    await after.omemo.caught_up()
    assert await ada.take_keys(after) == 0  # that has begun the session
    await after.take_keys(ada)
    await talk(after, ada, "and on")


def test_state_that_is_simply_set_back_would_break() -> None:
    """What the renewal is for."""

    async def story() -> None:
        server, desk, ada = await pair()
        backup = dict(desk.disk.entries)
        await talk(desk, ada, "since")
        after = await Party(server, DESK, Disk(backup)).begin()
        await talk(after, ada, "again")

    with pytest.raises(VeilError):
        in_loop(story)


@in_a_loop
async def test_no_session_and_no_pre_key_is_left_of_before() -> None:
    server, desk, _ = await pair()
    after = await restored(server, desk.disk.entries)
    mine = {key: value for key, value in desk.disk.entries.items() if "ratchet" in key or "x3dh" in key}
    assert mine
    assert not mine.items() & after.disk.entries.items()
    assert not [key for key in after.disk.entries if "ratchet" in key]
    await renew(after.disk)  # a first start that was cut off and comes again
    await after.begin()


@in_a_loop
async def test_who_is_no_admin_any_more_gets_no_session() -> None:
    server, desk, ada = await pair()
    after = await restored(server, desk.disk.entries)
    after.line.is_admin = lambda jid: False  # type: ignore[method-assign]
    await after.begin()
    assert await ada.take_keys(after) == 0
    assert not [key for key in after.disk.entries if key.startswith("/veilsupport/lost/")]


@in_a_loop
async def test_broken_line_leaves_the_sessions_to_the_next_one() -> None:
    server, desk, ada = await pair()
    after = await restored(server, desk.disk.entries)
    await after.omemo.start()
    with after.offline():
        await after.omemo.caught_up()
    assert await ada.take_keys(after) == 0
    await after.begin()
    assert await ada.take_keys(after) == 1


@in_a_loop
async def test_desk_without_keys_has_nothing_to_renew() -> None:
    disk = Disk()
    await renew(disk)
    assert disk.entries == {}
