"""The first start after a restore, as far as it needs no Tor; the rest is tests/live/test_moving.py's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.omemos import Party, Server
from tests.test_backup import desk as fill
from tests.test_omemo import ADA, DESK
from tests.xmppedge import in_loop
from veilsupport import people
from veilsupport.app import Appliance, Watch
from veilsupport.config import Config
from veilsupport.crypto import ApplianceKey
from veilsupport.desk import Desk
from veilsupport.directory import RESTORED, DataDirectory
from veilsupport.errors import SetupError
from veilsupport.moving import restored
from veilsupport.store import Store
from veilsupport.xmpp.sealing import Kept


def started(house: DataDirectory, key: ApplianceKey, *, alone: bool) -> bool:
    """Whether the mark is still there after a first start without Tor."""
    (house.path / RESTORED).touch()
    asyncio.run(restored.first_start(house, Config(), key, uses_tor=False, alone=alone))
    return house.is_restored


def test_mark_stays_until_the_address_was_looked_for_or_the_operator_knows(tmp_path: Path) -> None:
    key = fill(tmp_path / "data")
    with DataDirectory(tmp_path / "data") as house:
        assert started(house, key, alone=False)
        assert not started(house, key, alone=True)


def test_desk_that_never_had_an_address_has_no_twin(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as house:
        key = house.key(lambda: None)
        (house.path / RESTORED).touch()
        asyncio.run(restored.first_start(house, Config(), key, uses_tor=True, alone=False))
        assert not house.is_restored


def test_nothing_else_publishes_it_before_that(tmp_path: Path) -> None:
    """The doctor, for example, which starts a desk by itself."""

    def ignore(state: object) -> None:
        pass

    async def go(house: DataDirectory, key: ApplianceKey) -> None:
        with pytest.raises(SetupError, match="comes out of a backup"):
            Appliance(house, Config(), key, port=None, watch=Watch(page=ignore, tor=ignore, link=ignore))

    with DataDirectory(tmp_path / "data") as house:
        key = house.key(lambda: None)
        (house.path / RESTORED).touch()
        asyncio.run(go(house, key))


def test_sealed_omemo_state_on_disk_is_begun_anew(tmp_path: Path) -> None:
    async def story(house: DataDirectory, key: ApplianceKey) -> None:
        server = Server()
        ours = await Party(server, DESK).begin()
        ada = await Party(server, ADA).begin()
        await ada.opens(await ours.sealed("hello", ada), ours)
        before = ours.disk.entries
        store = Store(house.database)
        desk = Desk(store, key, people.admins_of(Config()))
        await desk.keep_omemo(before)
        await restored.first_start(house, Config(), key, uses_tor=False, alone=True)
        after = Kept(desk, clock=lambda: 0.0).load()
        assert after["/ikp/key"] == before["/ikp/key"]
        assert [key for key in before if "double_ratchet" in key]
        assert not [key for key in after if "double_ratchet" in key]
        desk.close()
        store.close()

    with DataDirectory(tmp_path / "data") as house:
        key = house.key(lambda: None)
        in_loop(lambda: story(house, key))


def test_sessions_are_begun_anew_once_however_long_the_mark_stays(tmp_path: Path) -> None:
    """Or each start without Tor would drop the sessions in which the admins have just written."""

    async def story(house: DataDirectory, key: ApplianceKey) -> None:
        server = Server()
        ours = await Party(server, DESK).begin()
        ada = await Party(server, ADA).begin()
        await restored.first_start(house, Config(), key, uses_tor=False, alone=False)
        await ada.opens(await ours.sealed("hello", ada), ours)
        store = Store(house.database)
        desk = Desk(store, key, people.admins_of(Config()))
        await desk.keep_omemo(ours.disk.entries)
        await restored.first_start(house, Config(), key, uses_tor=False, alone=False)
        assert Kept(desk, clock=lambda: 0.0).load() == ours.disk.entries
        assert house.is_restored
        desk.close()
        store.close()

    with DataDirectory(tmp_path / "data") as house:
        key = house.key(lambda: None)
        (house.path / RESTORED).touch()
        in_loop(lambda: story(house, key))
