"""Health and numbers of a whole desk on a private Tor network: while it is well, and while its tor is gone."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.live.appliance import Appliance, run_command
from tests.live.maindesk import PASSWORDS, is_online, phone_of, set_up
from tests.live.overhttp import browser_at
from tests.live.privnet import PrivateTorNetwork
from tests.live.prosody import Prosody
from tests.ports import free_port
from tests.test_metrics import labels, numbers

WORDS = "is anyone there?"


def fetched(port: int, path: str) -> tuple[int, str]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        link.request("GET", path)
        answer = link.getresponse()
        return answer.status, answer.read().decode()
    finally:
        link.close()


def counted(port: int) -> dict[tuple[str, ...], float]:
    status, text = fetched(port, "/metrics")
    assert status == 200
    return numbers(text)


def wait_until(what: str, check: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def tor_of(appliance: Appliance) -> int:
    assert appliance.process
    children = Path(f"/proc/{appliance.process.pid}/task/{appliance.process.pid}/children").read_text().split()
    [tor] = [int(each) for each in children if Path(f"/proc/{each}/comm").read_text().strip() == "tor"]
    return tor


def test_health_and_numbers_tell_the_running_truth(tornet: PrivateTorNetwork, tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    with Prosody(accounts=PASSWORDS) as prosody:
        onion, close = tornet.onion_service(prosody.port)
        set_up(data, prosody, host=onion, port=5222, torrc_lines=tornet.torrc_lines)
        try:
            with Appliance(data, "--health-port", str(port)) as appliance:
                page = appliance.wait_for_onion()
                appliance.wait_until("online", is_online)
                asyncio.run(rings(tornet, prosody, page))
                while_it_is_well(appliance, port, page, tornet)
                while_tor_is_gone(appliance, port)
                assert appliance.stop() == 0
        finally:
            close()


async def rings(net: PrivateTorNetwork, server: Prosody, page: str) -> None:
    async with phone_of(server) as phone:
        await browser_at(page, socks=net.socks).start(WORDS)
        await phone.room_text(WORDS, seconds=30)


def while_it_is_well(appliance: Appliance, port: int, page: str, net: PrivateTorNetwork) -> None:
    assert fetched(port, "/live")[0] == 200
    status, text = fetched(port, "/ready")
    assert (status, json.loads(text)["ready"]) == (200, True)
    wait_until("acknowledged", lambda: ("veilsupport_deliveries_total", "message", "acknowledged") in counted(port))
    found = counted(port)
    assert found["veilsupport_messages_total", "visitor"] == 1
    assert 0 < found["veilsupport_delivery_delay_seconds_sum", "message"] < 60
    assert found["veilsupport_stanzas_sent_total", "no", "message"] == 1
    assert found["veilsupport_rooms",] == 1
    assert found["veilsupport_tor_phase", "reachable"] == 1
    assert found["veilsupport_tor_descriptors",] > 0
    assert found["veilsupport_tor_descriptor_age_seconds",] < 120
    assert found["veilsupport_xmpp_connections_total",] == 1
    [(_, tor, _)] = [key for key in found if key[0] == "veilsupport_build"]
    assert tor.startswith("0.4.")
    for value in labels(fetched(port, "/metrics")[1]):
        assert ".onion" not in value
        assert "@" not in value
    assert asyncio.run(browser_at(page, socks=net.socks).get("/metrics")).status == 404
    done = run_command("status", "--data", str(appliance.data))
    assert done.returncode == 0, done.stdout
    assert page.rstrip("/") in done.stdout
    assert f"tor {tor}" in done.stdout
    others = {address for address in addresses() if address != "127.0.0.1"}
    for address in others:
        with socket.socket() as link:
            assert link.connect_ex((address, port)) != 0


def addresses() -> list[str]:
    """Other addresses of this machine."""
    return ["127.0.0.2", *socket.gethostbyname_ex(socket.gethostname())[2]]


def while_tor_is_gone(appliance: Appliance, port: int) -> None:
    tor = tor_of(appliance)
    os.kill(tor, signal.SIGSTOP)  # so that it is not back before we look; then it ends
    os.kill(tor, signal.SIGKILL)

    def noticed() -> bool:
        """In one answer: by the next it may be back."""
        status, body = fetched(port, "/ready")
        parts = json.loads(body)["parts"]
        return (status, parts["tor"]["ready"], parts["store"]["ready"]) == (503, False, True)

    wait_until("noticed", noticed)
    assert run_command("status", "--data", str(appliance.data)).returncode in (0, 3)  # it may be back by now
    wait_until("back", lambda: fetched(port, "/ready")[0] == 200, seconds=120)
    found = counted(port)
    assert found["veilsupport_tor_restarts",] == 1
    assert found["veilsupport_xmpp_connections_total",] == 2
