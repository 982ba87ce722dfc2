"""Every socket of an evening and a day: nothing dials but the test network's ports, and nobody asks any DNS.

Under strace, with all children: the walk through setup with its checks, the appliance and its tor, doctor, backup and
restore with its look for a twin. The names of hosts are such that a look-up of them would be seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.live.appliance import COMMAND, Appliance
from tests.live.maindesk import BACKUP, GIVEN, answers_for, is_online, phone_of, write_torrc_lines
from tests.live.overhttp import browser_at
from tests.live.privnet import PrivateTorNetwork
from tests.live.prosody import Prosody
from tests.live.test_main_job import loopback_ports

CALLS = "trace=connect,bind,sendto,sendmsg,sendmmsg"
_DNS = 53


class Traced:
    """Commands under strace, each with a file of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()

    def prefix(self, name: str) -> tuple[str, ...]:
        return ("strace", "-D", "-f", "-qq", "-e", CALLS, "-o", str(self._directory / name), *COMMAND)

    def run(self, name: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix(name), *arguments],
            capture_output=True,
            text=True,
            timeout=180,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )

    def strays(self, places: list[Path], ports: set[int]) -> dict[str, list[str]]:
        """By command: what it reached for, that is neither under one of these directories nor one of these ports."""
        found = {file.name: stray_calls(file.read_text(), places, ports) for file in self._directory.iterdir()}
        return {name: lines for name, lines in found.items() if lines}


def stray_calls(trace: str, places: list[Path], ports: set[int]) -> list[str]:
    found = []
    for line in trace.splitlines():
        inet = re.search(r"AF_INET, sin_port=htons\((\d+)\), sin_addr=inet_addr\(\"([\d.]+)\"\)", line)
        unix = re.search(r'AF_UNIX, sun_path="([^"]*)"', line)
        elsewhere = inet and not (inet[2] == "127.0.0.1" and int(inet[1]) in ports and int(inet[1]) != _DNS)
        foreign = unix and not any(Path(unix[1]).is_relative_to(place) for place in places)
        if elsewhere or foreign or "AF_INET6" in line:
            found.append(line)
    return found


def test_no_command_and_no_journey_reaches_for_anything_else(
    tornet: PrivateTorNetwork, prosody: Prosody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    data, house, file = tmp_path / "data", tmp_path / "house", tmp_path / "b"
    onion, close = tornet.onion_service(prosody.port)
    traced = Traced(tmp_path / "traces")
    try:
        set_up(traced, data, prosody, onion, tornet)
        with Appliance(data, command=traced.prefix("run")) as appliance:
            page = appliance.wait_for_onion()
            appliance.wait_until("online", is_online)
            asyncio.run(journey(page, prosody, tornet))
            examined = json.loads(traced.run("doctor", "doctor", "--json", "--data", str(data)).stdout)
            assert not [each for each in examined["findings"] if each["level"] == "bad"], examined
            assert traced.run("backup", "backup", str(file), "--data", str(data), env=BACKUP).returncode == 0
            assert traced.run("verify", "backup", "--verify", str(file), env=BACKUP).returncode == 0
            assert traced.run("restore", "restore", str(file), "--data", str(house), env=BACKUP).returncode == 0
            refused = traced.run("twin", "run", "--data", str(house))
            assert refused.returncode != 0
            for name in ("status", "seizure", "expire"):
                traced.run(name, name, "--data", str(data))
            assert appliance.stop() == 0
        alone = traced.run("alone", "doctor", "--json", "--data", str(data))  # it starts a tor of its own
        assert alone.stdout, alone.stderr
    finally:
        close()
    assert traced.strays([tmp_path], loopback_ports(tornet)) == {}
    assert all((tmp_path / "traces" / name).read_text() for name in ("setup", "run", "twin", "alone"))


def set_up(traced: Traced, data: Path, server: Prosody, onion: str, net: PrivateTorNetwork) -> None:
    """With the check of every answer, through a tor of its own."""
    data.mkdir(mode=0o700)
    write_torrc_lines(data, net.torrc_lines)
    answers = [*answers_for(server, host=onion, port=5222), "--check"]
    done = traced.run("setup", "setup", "--data", str(data), *answers, env=GIVEN)
    assert done.returncode == 0, done.stderr


async def journey(page: str, server: Prosody, net: PrivateTorNetwork) -> None:
    """There and back; and links that nobody follows."""
    browser = browser_at(page, socks=net.socks)
    async with phone_of(server) as phone:
        await browser.start("look at http://leak.example/picture.png")
        room = (await phone.room_text("leak.example", seconds=60)).room
        phone.room_say(room, "see https://other.example/ and xmpp:a@leak.example")
        async with asyncio.timeout(60):
            while "other.example" not in (await browser.get("/chat/latest")).text:
                await asyncio.sleep(0.2)
        assert (await browser.send_form("/chat/burn")).status == 303


def test_a_stray_call_is_found() -> None:
    asks = '7 connect(9, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.1")}, 16) = 0'
    dials = '7 connect(9, {sa_family=AF_INET, sin_port=htons(99), sin_addr=inet_addr("192.0.2.1")}, 16) = 0'
    system = '7 connect(9, {sa_family=AF_UNIX, sun_path="/run/nscd/socket"}, 110) = -1'
    ours = '7 connect(9, {sa_family=AF_INET, sin_port=htons(99), sin_addr=inet_addr("127.0.0.1")}, 16) = 0'
    assert stray_calls("\n".join([asks, dials, system, ours]), [Path("/data")], {99, 53}) == [asks, dials, system]
    assert shutil.which("strace")
