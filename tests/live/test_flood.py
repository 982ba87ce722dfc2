"""A flood against the web edge as shipped: honest visitors lose nothing, memory is bounded, and it relaxes by itself.

How fast it is says `python -m tests.bench.flood`, which also goes through Tor.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.bench.flood import flood, on_the_socket
from tests.live.privnet import PrivateTorNetwork
from tests.live.test_tor import PAGE, fetch, running
from veilsupport.socks import SocksProxy, dial
from veilsupport.tor import TorSettings

_SECONDS = 8.0
_MEMORY_BYTES = 400 * 2**20  # two Argon2 at 64 MiB, the page cache of SQLite, and what limits.py and windows.py say


def test_in_a_flood_honest_visitors_lose_nothing_and_afterwards_all_is_as_before(tmp_path: Path) -> None:
    with on_the_socket(tmp_path) as target:
        report = asyncio.run(
            flood(
                target,
                seconds=_SECONDS,
                visitors=8,
                scale=1.0,
                relax_seconds=60,
                alone_seconds=2.0,
                hurried=True,
            )
        )
    print(report.table())
    assert report.bugs == 0
    assert (report.errors, report.lost, report.doubled, report.unseen) == ({}, 0, 0, 0)
    assert report.sent >= 8
    assert report.tripped
    assert report.relaxed_after is not None
    assert report.memory_flooded < _MEMORY_BYTES
    assert report.remembered < 72_000
    # What was let in: the burst of the table and its rate, and hardly more; everything else was asked or told to wait.
    assert report.flood["start"].get("201", 0) <= 200 + 2 * _SECONDS
    assert report.flood["start"].get("403", 0) > 0
    assert not {status for counts in report.flood.values() for status in counts if status.startswith("5")} - {"503"}


def test_tor_closes_the_circuit_it_is_told_and_asks_for_work_sooner_under_pressure(
    tornet: PrivateTorNetwork, tmp_path: Path
) -> None:
    """And whoever is there goes on: the reload for it ends no connection."""

    async def run() -> None:
        web = tmp_path / "web"
        web.mkdir(mode=0o700)
        settings = TorSettings(tmp_path / "tor", tmp_path / "onion", web / "w", torrc_lines=tornet.torrc_lines)
        async with running(settings) as service, asyncio.timeout(60):
            address = await service.reachable()
            proxy = SocksProxy(tornet.socks)
            there, flooder = [
                await asyncio.open_connection(
                    sock=await dial(proxy, address, 80, credentials=(name, "1"), timeout_seconds=20)
                )
                for name in ("there", "flooder")
            ]
            while len(lines := [line for line in service.circuit_lines if line]) < 2:
                await asyncio.sleep(0.05)
            service.daemon.press(True)
            while "HiddenServicePoWQueueRate 100" not in settings.torrc.read_text():
                await asyncio.sleep(0.05)
            service.daemon.close_circuit(0xFFFFFF)  # gone before: as good
            service.daemon.close_circuit(_number_of(lines[-1]))
            assert await flooder[0].read() == b""
            there[1].write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await there[0].read()).endswith(PAGE)
            there[1].close()
            flooder[1].close()
            service.daemon.press(False)
            while "HiddenServicePoWQueueRate 200" not in settings.torrc.read_text():
                await asyncio.sleep(0.05)
            assert (await fetch(tornet, address)).endswith(PAGE)
            assert service.daemon.state.restarts == 0

    asyncio.run(run())


def _number_of(line: bytes) -> int:
    found = re.search(rb"::([0-9a-f]+):([0-9a-f]+) ::1", line)
    assert found
    return int(found[1], 16) << 16 | int(found[2], 16)
