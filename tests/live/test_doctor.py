"""`doctor` with the real parts: through an onion of a private Tor network to Prosody and back; and interrupted."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.appliance import COMMAND, Appliance, run_command
from tests.live.phone import Phone
from tests.live.privnet import PrivateTorNetwork
from tests.live.prosody import Prosody
from tests.ports import free_port
from veilsupport.config import FILE_NAME
from veilsupport.store.inventory import take

PASSWORDS = {"desk": "desk-password", "ada": "ada-password"}
HOPS = ("The page came through Tor", "was accepted", "handed over", "is gone")


@pytest.fixture
def prosody() -> Iterator[Prosody]:
    with Prosody(accounts=PASSWORDS) as server:
        yield server


def set_up(data: Path, server: Prosody, *, host: str, port: int, more: str = "") -> None:
    answers = ["--jid", server.jid("desk"), "--host", host, "--port", str(port), "--certificate", server.fingerprint]
    answers += ["--admin", f"{server.jid('ada')}=Ada"]
    done = run_command("setup", "--data", str(data), *answers, env={"VEILSUPPORT_XMPP_PASSWORD": PASSWORDS["desk"]})
    assert done.returncode == 0, done.stderr
    with (data / FILE_NAME).open("a") as file:
        file.write(more)


def tor_of(net: PrivateTorNetwork) -> str:
    lines = ", ".join(f'"{line}"' for line in net.torrc_lines)
    return f"\n[tor]\nlines = [{lines}]\n"


def doctor(data: Path, *more: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [*COMMAND, "doctor", "--data", str(data), "--json", *more], capture_output=True, text=True, timeout=180
    )
    assert done.stdout, done.stderr
    return done.returncode, list(json.loads(done.stdout)["findings"])


def of(found: list[dict[str, Any]], about: str) -> list[dict[str, Any]]:
    return [each for each in found if each["about"] == about]


def is_online(told: dict[str, Any]) -> bool:
    return bool(told["xmpp"]["phase"] == "online")


def nothing_is_left(appliance: Appliance) -> bool:
    return bool(appliance.status()["conversations_open"] == 0)


def send(server: Prosody, number: signal.Signals) -> None:
    assert server._process is not None
    server._process.send_signal(number)


def test_a_message_goes_through_tor_to_the_server_and_is_removed(
    tornet: PrivateTorNetwork, prosody: Prosody, tmp_path: Path
) -> None:
    """With the desk running; then the same with a desk that `doctor` starts itself."""
    data = tmp_path / "data"
    onion, close = tornet.onion_service(prosody.port)
    set_up(data, prosody, host=onion, port=5222, more=tor_of(tornet))
    try:
        with Appliance(data) as appliance:
            appliance.wait_for_onion()
            appliance.wait_until("online", is_online)
            found = asyncio.run(seen_by_ada(data, prosody))
            assert nothing_is_left(appliance)
        status, again = doctor(data)
    finally:
        close()
    for told in (found, again):
        hops = of(told, "loop-back")
        assert [each["level"] for each in hops] == ["ok"] * 4, hops
        for words, hop in zip(HOPS, hops, strict=True):
            assert words in hop["words"]
            assert re.search(r"\d\.\d\d s", hop["words"])
        for about in ("tor", "clock", "xmpp", "archive", "rooms", "backlog"):
            assert {each["level"] for each in of(told, about)} == {"ok"}, of(told, about)
        assert re.search(r"tor 0\.\d+\.\d+\.\d+: the page was fetched through Tor", of(told, "tor")[0]["words"])
    assert status == 1  # Ada shows no OMEMO key here, and the desk did not run
    assert any("started for this" in each["words"] for each in again)


async def seen_by_ada(data: Path, server: Prosody) -> list[dict[str, Any]]:
    """What doctor says while Ada is there, who reads the marked message in its room."""
    async with Phone(server.jid("ada"), PASSWORDS["ada"], desk=server.jid("desk"), port=server.port) as phone:
        examined = asyncio.create_task(asyncio.to_thread(doctor, data))
        rang = await phone.room_text("This is a test of the desk by its operator", seconds=60)
        assert "Nothing has to be done" in rang.body
        return (await examined)[1]


def test_a_server_that_is_away_is_said_and_the_test_burned(prosody: Prosody, tmp_path: Path) -> None:
    data = tmp_path / "data"
    set_up(data, prosody, host="127.0.0.1", port=prosody.port)
    with Appliance(data, "--no-tor", "--port", str(free_port())) as appliance:
        appliance.wait_until("online", is_online)
        prosody.stop()
        appliance.wait_until("offline", lambda told: told["xmpp"]["phase"] == "waiting")
        status, found = doctor(data)
        assert status == 2
        assert of(found, "xmpp")[0]["level"] == "wrong"
        *_, unproved, burned = of(found, "loop-back")
        assert "no connection to the admins' server" in unproved["words"]
        assert "is gone" in burned["words"]
        assert nothing_is_left(appliance)


def test_an_interrupted_doctor_leaves_nothing(prosody: Prosody, tmp_path: Path) -> None:
    """Ctrl-C while the desk is at it: the desk notices that nobody listens, and burns the test."""
    data = tmp_path / "data"
    set_up(data, prosody, host="127.0.0.1", port=prosody.port)
    with Appliance(data, "--no-tor", "--port", str(free_port())) as appliance:
        appliance.wait_until("online", is_online)
        examined = subprocess.Popen([*COMMAND, "doctor", "--data", str(data)], stdout=subprocess.PIPE, text=True)
        assert examined.stdout is not None
        for line in examined.stdout:
            if "The page came" in line:
                break
        examined.send_signal(signal.SIGINT)
        examined.communicate(timeout=20)
        appliance.wait_until("nothing left", lambda told: told["conversations_open"] == 0)
        appliance.kill()
        appliance.start()
        appliance.wait_until("online", is_online)
        assert nothing_is_left(appliance)


@pytest.mark.parametrize("ended", ["stopped", "killed"])
def test_what_ends_with_the_desk_in_the_middle_of_a_test_leaves_nothing(
    prosody: Prosody, tmp_path: Path, ended: str
) -> None:
    """Stopped, the desk burns the test before it goes; killed, when it comes again."""
    data = tmp_path / "data"
    set_up(data, prosody, host="127.0.0.1", port=prosody.port)
    with Appliance(data, "--no-tor", "--port", str(free_port())) as appliance:
        appliance.wait_until("online", is_online)
        send(prosody, signal.SIGSTOP)  # it acknowledges nothing, so the test stays for as long as doctor is patient
        examined = subprocess.Popen([*COMMAND, "doctor", "--data", str(data)], stdout=subprocess.PIPE, text=True)
        assert examined.stdout is not None
        for line in examined.stdout:
            if "was accepted" in line:
                break
        assert not nothing_is_left(appliance)
        if ended == "stopped":
            assert appliance.stop() == 0
        else:
            appliance.kill()
        examined.communicate(timeout=20)
        send(prosody, signal.SIGCONT)
        kept = take(data / "veilsupport.sqlite")
        assert kept is not None
        assert kept.visitors == (0 if ended == "stopped" else 1)
        appliance.start()
        appliance.wait_until("online", is_online)
        assert nothing_is_left(appliance)
