"""The built executable under what packaging/veilsupport.service allows it; how far that goes: confined.py."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.appliance import TOP, Appliance
from tests.live.executable import built
from tests.live.privnet import PrivateTorNetwork
from tests.live.test_private_desk import until_fetched
from veilsupport.config import FILE_NAME
from veilsupport.socks import SocksProxy

NOBODY = 65534


@pytest.fixture
def house() -> Iterator[Path]:
    """With the service's three directories in it, and the executable, all of the service's user.

    Not below pytest's own directory, which every pytest that starts closes to others.
    """
    program = built()
    with tempfile.TemporaryDirectory(prefix="service-") as name:
        top = Path(name)
        top.chmod(0o711)
        for part in ("data", "cache", "runtime"):
            (top / part).mkdir(mode=0o700)
        shutil.copy(program, top / "cache" / "veilsupport")
        if os.geteuid() == 0:
            for path in (top / "data", top / "cache", top / "runtime", top / "cache" / "veilsupport"):
                shutil.chown(path, NOBODY, NOBODY)
        yield top


def confined(house: Path, *command: str) -> list[str]:
    directories = [str(house / name) for name in ("data", "cache", "runtime")]
    return [sys.executable, "-m", "tests.live.confined", *directories, *command]


def said(house: Path, script: str) -> str:
    done = subprocess.run(confined(house, "/bin/sh", "-c", script), capture_output=True, text=True, cwd=TOP, timeout=60)
    return done.stdout + done.stderr


def test_confinement_confines(house: Path) -> None:
    shutil.copy("/bin/true", house / "data" / "program")
    assert "Read-only file system" in said(house, f"touch {house}/elsewhere")
    assert "Permission denied" in said(house, f"{house}/data/program")
    assert "/dev/shm/x" in said(house, "touch /dev/shm/x"), "memory is its own only"
    assert "well" in said(house, f"touch {house}/data/file && {house}/cache/veilsupport --version && echo well")
    netlink = "import socket; socket.socket(16, 3)"
    assert "not permitted" in said(house, f"/usr/bin/python3 -c '{netlink}'") or not Path("/usr/bin/python3").exists()
    assert "No such file" in said(house, "cat /proc/meminfo")
    status = said(house, "cat /proc/self/status")
    for line in ("NoNewPrivs:\t1", "Seccomp:\t2", f"Uid:\t{NOBODY}", "CapBnd:\t0000000000000000"):
        assert line in status


def test_desk_is_reachable_through_tor_with_its_key_in_memory(tornet: PrivateTorNetwork, house: Path) -> None:
    lines = ", ".join(f'"{line}"' for line in tornet.torrc_lines)
    settings, passphrase = house / "data" / FILE_NAME, house / "data" / "passphrase"
    settings.write_text(f"[tor]\nlines = [{lines}]\n")
    passphrase.write_text("open sesame\n")
    for path in (settings, passphrase):
        shutil.chown(path, NOBODY, NOBODY)
        path.chmod(0o600)
    program, data = str(house / "cache" / "veilsupport"), str(house / "data")
    given = ("--new-passphrase-file", str(passphrase), "--name", "Support", "--data", data)
    subprocess.run(confined(house, program, "setup", *given), check=True, cwd=TOP, capture_output=True)
    appliance = Appliance(house / "data", "--passphrase-file", str(passphrase), command=confined(house, program))
    with appliance:
        onion = appliance.wait_for_onion().removeprefix("http://").strip("/")
        asyncio.run(until_fetched(SocksProxy(tornet.socks), onion))
        told = subprocess.run(
            confined(house, program, "status", "--data", data), cwd=TOP, capture_output=True, text=True
        )
        assert onion in told.stdout, told.stderr
        assert appliance.stop(seconds=10) == 0
    assert "Traceback" not in appliance.output
    left = [path.name for path in (house / "cache").iterdir()]
    assert left == ["veilsupport"], "what it unpacked is gone"
