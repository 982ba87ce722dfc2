"""A desk whose page is for clients alone: made private, opened by key, and made public again while it runs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from tests.live.appliance import Appliance, run_command
from tests.live.privnet import PrivateTorNetwork
from tests.live.test_own_server import client_tor, key_in, veilsupport
from tests.ports import free_port
from veilsupport.config import FILE_NAME
from veilsupport.errors import Unavailable
from veilsupport.socks import SocksProxy, dial


async def fetched(socks: SocksProxy, onion: str, *, seconds: float = 10) -> bool:
    """Whether the page's check comes back, on circuits that were open before, too."""
    try:
        async with asyncio.timeout(seconds):
            link = await dial(socks, onion, 80, credentials=("visitor", "1"), timeout_seconds=seconds)
            reader, writer = await asyncio.open_connection(sock=link)
            writer.write(f"GET /check HTTP/1.1\r\nHost: {onion}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
    except (Unavailable, OSError):
        return False
    return answer.startswith(b"HTTP/1.1 2")


async def until_fetched(socks: SocksProxy, onion: str) -> None:
    async with asyncio.timeout(60):
        while not await fetched(socks, onion):
            await asyncio.sleep(0.2)


def reachable_for(clients: int) -> Any:
    return lambda told: told["tor"]["phase"] == "reachable" and told["tor"]["clients"] == clients


def test_page_is_for_clients_alone_and_then_for_everybody_again(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    lines = ", ".join(f'"{line}"' for line in tornet.torrc_lines)
    (data / FILE_NAME).write_text(f"[tor]\nlines = [{lines}]\n")
    with Appliance(data) as appliance:
        onion = appliance.wait_for_onion().removeprefix("http://").strip("/")
        asyncio.run(comes_and_goes(tornet, tmp_path, appliance, onion))
        assert appliance.stop() == 0
    printed = re.sub(onion, "", appliance.output)
    assert "Traceback" not in printed
    assert "ada" not in printed


async def comes_and_goes(net: PrivateTorNetwork, tmp_path: Path, appliance: Appliance, onion: str) -> None:
    data, everybody = appliance.data, SocksProxy(net.socks)
    await until_fetched(everybody, onion)
    link = await dial(everybody, onion, 80, credentials=("reader", "1"), timeout_seconds=20)
    reader, writer = await asyncio.open_connection(sock=link)  # somebody without a key, who has the page open
    assert "everybody" in veilsupport(data, "onion", "show")
    ada_key = key_in(veilsupport(data, "onion", "client", "add", "ada"))
    assert await asyncio.wait_for(reader.read(), 30) == b"", "whoever has no key is cut off"
    writer.close()
    appliance.wait_until("private, and found by itself", reachable_for(1))
    assert not await fetched(everybody, onion)
    with client_tor(net, tmp_path / "ada", ada_key) as ada:
        await until_fetched(ada, onion)
        bob_key = key_in(veilsupport(data, "onion", "client", "add", "bob"))
        appliance.wait_until("for two", reachable_for(2))
        assert "Clients: ada, bob" in veilsupport(data, "onion", "show")
        veilsupport(data, "onion", "client", "remove", "ada")
        appliance.wait_until("for one", reachable_for(1))
        assert not await fetched(ada, onion)
    with client_tor(net, tmp_path / "bob", bob_key) as bob:
        await until_fetched(bob, onion)
    refused = run_command("onion", "client", "remove", "bob", "--data", str(data))
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    veilsupport(data, "onion", "client", "remove", "bob", "--yes")
    appliance.wait_until("for everybody", reachable_for(0))
    net.new_identity()  # Who asked in vain before is not let ask the same directories again for a quarter of an hour.
    await until_fetched(everybody, onion)


def test_rotated_desk_comes_up_under_its_new_address(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    data, passphrase = tmp_path / "data", tmp_path / "passphrase"
    passphrase.write_text("open sesame\n")
    sealed = ("--passphrase-file", str(passphrase))
    veilsupport(data, "setup", "--new-passphrase-file", str(passphrase))
    lines = ", ".join(f'"{line}"' for line in tornet.torrc_lines)
    with (data / FILE_NAME).open("a") as file:
        file.write(f"\n[tor]\nlines = [{lines}]\n")
    with Appliance(data, *sealed) as appliance:
        before = appliance.wait_for_onion()
        assert "Stop it first" in run_command("onion", "rotate", "--yes", "--data", str(data)).stderr
        appliance.kill()  # what it had in memory stays there
    new = veilsupport(data, "onion", "rotate", "--yes", *sealed)
    with Appliance(data, *sealed) as appliance:
        after = appliance.wait_for_onion()
        assert after != before
        assert f"{after}/" in new
        assert appliance.stop() == 0


def test_running_desk_takes_admins_at_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Appliance(data, "--no-tor", "--port", str(free_port())) as appliance:
        appliance.wait_until("up", lambda told: told["admins"] == 0)
        veilsupport(data, "admin", "add", "ada@home.example", "--name", "Ada")
        assert appliance.status()["admins"] == 1
        veilsupport(data, "admin", "remove", "ada")
        assert appliance.status()["admins"] == 0
        assert "ada" not in appliance.output.lower()
