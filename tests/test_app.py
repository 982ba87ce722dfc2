"""What the running whole takes from its settings, when its disk does not take it; and how it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.desks import KEY
from veilsupport import app, config, directory
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


def test_what_was_asked_for_is_done_to_its_end(house: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only asking and answering are limited in time."""

    async def go() -> None:
        appliance, done = made(house), asyncio.Event()

        async def slowly(line: bytes) -> dict[str, Any]:
            await done.wait()
            return {"line": line.decode()}

        monkeypatch.setattr(app, "_ASKING_SECONDS", 0.05)
        monkeypatch.setattr(appliance, "_told", slowly)
        async with appliance._status_socket():
            asking = asyncio.create_task(asyncio.to_thread(directory.ask, house.path, "reload"))
            asyncio.get_running_loop().call_later(0.3, done.set)
            assert await asking == {"line": "reload\n"}
        appliance._desk.close()
        appliance._store.close()

    asyncio.run(go())
