"""What the running whole takes from its settings, when its disk does not take it; and how it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desks import KEY
from veilsupport import config
from veilsupport.app import Appliance, Watch
from veilsupport.directory import DataDirectory
from veilsupport.errors import StoreError

ADMIN = """
[[admin]]
jid = "{name}@chat.example"
name = "{name}"
"""
BOTH = ADMIN.format(name="ada") + ADMIN.format(name="bert")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path / "data") as found:
        yield found


def made(house: DataDirectory) -> Appliance:
    watch = Watch(page=lambda port: None, tor=lambda state: None, link=lambda state: None)
    return Appliance(house, config.parse(BOTH), KEY, port=1, watch=watch)


def test_a_removed_admin_is_off_the_line_even_when_the_disk_is_full(house: DataDirectory) -> None:
    async def go() -> None:
        appliance, fewer = made(house), config.parse(ADMIN.format(name="ada"))
        appliance._store.close()
        with pytest.raises(StoreError):
            await appliance._take_admins(fewer)
        assert [admin.name for admin in appliance._desk.admins] == ["ada"]
        assert appliance._bridge_anew.is_set()
        with pytest.raises(StoreError):  # and the next reload tries again what the disk did not take
            await appliance._take_admins(fewer)

    asyncio.run(go())
