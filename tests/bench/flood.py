"""A flood from many circuits, while honest visitors go on: what they feel, and what it costs.

    python -m tests.bench.flood [--seconds 30] [--visitors 20] [--scale 1] [--tor] [--json]

Without --tor against the web server's own socket, with the line that tor would send; with it against a whole appliance
behind an onion of a private Tor network. First the visitors are alone, then with the flood, and then it is timed
how long the desk takes to relax. The flood, the server and the visitors are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import html
import json
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.circuits import Way
from tests.bench.floodserver import HOST
from tests.live.appliance import Appliance
from tests.live.maindesk import PASSWORDS, is_online, set_up
from tests.live.privnet import PrivateTorNetwork
from tests.live.prosody import Prosody
from veilsupport.breaker import CALM_SECONDS
from veilsupport.controlsocket import ask

_PACE_SECONDS = 2.5  # between two messages of one visitor: what the table of limits lets a person do for ever
_MOST_MESSAGES = 8  # of one visitor in each phase: nobody answers here, and a request is bounded


@dataclass
class Target:
    """What is flooded."""

    way: Way
    flooded: dict[str, Any]  # as the attackers are told
    look: Callable[[], dict[str, Any]]
    pid: int
    put_forward: Callable[[float], None] | None = None  # its clock; None: it is the machine's


@dataclass
class Visitor:
    """An honest one: writes through page or API, and has a live view open."""

    circuit: int
    by_page: bool
    token: str = ""
    kept: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    async def starts(self, way: Way) -> None:
        reply = await way.ask(self.circuit, "POST", "/api/v1/auth/anonymous", json_body={})
        assert reply.status == 201, reply
        self.token = reply.json["token"]

    async def writes_until(self, way: Way, end: float) -> None:
        for _ in range(_MOST_MESSAGES):
            if time.monotonic() >= end:
                return
            text = f"honest {secrets.token_hex(8)}"
            began = time.monotonic()
            try:
                status = await (self._by_page(way, text) if self.by_page else self._by_api(way, text))
            except (OSError, EOFError, TimeoutError) as error:
                status = type(error).__name__
            self.waits.append(time.monotonic() - began)
            if status in ("200", "303"):
                self.kept.append(text)
            else:
                self.errors[status] += 1
            await asyncio.sleep(max(0.0, _PACE_SECONDS - (time.monotonic() - began)))

    async def _by_page(self, way: Way, text: str) -> str:
        page = await way.ask(self.circuit, "GET", "/chat/compose", cookie=self.token)
        if page.status != 200:
            return f"page {page.status}"
        hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.body.decode())
        fields = {name: html.unescape(value) for name, value in hidden} | {"message": text}
        return str((await way.ask(self.circuit, "POST", "/chat/compose", fields=fields, cookie=self.token)).status)

    async def _by_api(self, way: Way, text: str) -> str:
        body = {"message": text, "id": secrets.token_hex(8)}
        return str((await way.ask(self.circuit, "POST", "/api/v1/chat/send", json_body=body, token=self.token)).status)

    async def reads(self, way: Way) -> list[str]:
        """All that stands in the conversation now."""
        reply = await way.ask(self.circuit, "GET", "/api/v1/chat/history?limit=200", token=self.token)
        return [message["content"] for message in reply.json["messages"]]

    async def watches(self, way: Way, end: float, seen: set[str]) -> None:
        """The live view, opened anew whenever it ends; notes which of the visitor's words it shows."""
        while time.monotonic() < end:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with (
                    asyncio.timeout(max(0.1, end - time.monotonic())),
                    way.connection(self.circuit) as (
                        reader,
                        writer,
                    ),
                ):
                    head = f"GET /chat/live HTTP/1.1\r\nhost: {way.host}\r\ncookie: veil={self.token}\r\n\r\n"
                    writer.write(head.encode())
                    while line := await reader.readline():
                        seen |= set(re.findall(r"honest [0-9a-f]{16}", line.decode("utf-8", "replace")))
            await asyncio.sleep(0.5)


@dataclass
class Report:
    """What came of it. Seconds, and bytes."""

    alone_p50: float = 0.0
    alone_p99: float = 0.0
    flooded_p50: float = 0.0
    flooded_p99: float = 0.0
    sent: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    doubled: int = 0
    unseen: int = 0  # in the live views
    memory_before: int = 0
    memory_flooded: int = 0
    memory_after: int = 0
    remembered: int = 0
    tripped: bool = False
    relaxed_after: float | None = None
    circuits_closed: int = 0
    bugs: int = 0
    flood: dict[str, dict[str, int]] = field(default_factory=dict)

    def table(self) -> str:
        """For people."""
        rows = {
            "honest, alone: p50, p99": f"{self.alone_p50 * 1000:.0f} ms, {self.alone_p99 * 1000:.0f} ms",
            "honest, in the flood": f"{self.flooded_p50 * 1000:.0f} ms, {self.flooded_p99 * 1000:.0f} ms",
            "messages": f"{self.sent} sent, {self.lost} lost, {self.doubled} doubled, {self.unseen} not seen live",
            "errors": str(self.errors or "none"),
            "memory": " → ".join(
                f"{size / 2**20:.0f} MB" for size in (self.memory_before, self.memory_flooded, self.memory_after)
            ),
            "remembered doings": str(self.remembered),
            "tripped, relaxed after": f"{self.tripped}, {self.relaxed_after} s",
            "circuits closed": str(self.circuits_closed),
            **{f"flood of {kind}": str(counts) for kind, counts in self.flood.items()},
        }
        return "\n".join(f"{name:24} {value}" for name, value in rows.items())


def memory_of(pid: int) -> int:
    """Resident, in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


async def flood(
    target: Target,
    *,
    seconds: float,
    visitors: int,
    scale: float,
    relax_seconds: float,
    alone_seconds: float = 10.0,
    hurried: bool = False,
) -> Report:
    """The whole of it; `relax_seconds` is how long to wait for that at most.

    `hurried`: what would take minutes of doing nothing is done by the server's clock.
    """
    report, way = Report(), target.way
    people = [Visitor(100 + number, by_page=number % 2 == 0) for number in range(visitors)]
    for person in people:
        await person.starts(way)
    await _write(people, way, alone_seconds)
    report.alone_p50, report.alone_p99 = _measured(people)
    report.memory_before = memory_of(target.pid)
    seen: set[str] = set()
    end = time.monotonic() + seconds
    watching = [asyncio.create_task(person.watches(way, end + 5, seen)) for person in people]
    asked = json.dumps({**target.flooded, "seconds": seconds, "scale": scale})
    attack = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.attackers", asked), stdout=subprocess.PIPE
    )
    looking = asyncio.create_task(_look(target, report, end))
    await _write(people, way, seconds)
    told, _ = await attack.communicate()
    over_at = time.time()
    report.flood = json.loads(told.splitlines()[-1])
    await looking
    await asyncio.gather(*watching)
    report.flooded_p50, report.flooded_p99 = _measured(people)
    await _compare(people, way, seen, report)
    for _ in range(2 if hurried and target.put_forward else 0):  # it calms down; it has been calm for long enough
        await asyncio.sleep(2.5)
        assert target.put_forward
        target.put_forward(10 * CALM_SECONDS)
    await _relax(target, report, over_at, relax_seconds)
    return report


async def _write(people: list[Visitor], way: Way, seconds: float) -> None:
    for person in people:
        person.waits.clear()
    end = time.monotonic() + seconds
    await asyncio.gather(*(person.writes_until(way, end) for person in people))


def _measured(people: list[Visitor]) -> tuple[float, float]:
    waits = sorted(wait for person in people for wait in person.waits)
    return statistics.median(waits), waits[int(len(waits) * 0.99)]


async def _look(target: Target, report: Report, end: float) -> None:
    while time.monotonic() < end:
        told = await asyncio.to_thread(target.look)
        report.tripped = report.tripped or told["pressed_by"] is not None
        report.remembered = max(report.remembered, told["remembered"])
        report.memory_flooded = max(report.memory_flooded, memory_of(target.pid))
        await asyncio.sleep(0.5)


async def _compare(people: list[Visitor], way: Way, seen: set[str], report: Report) -> None:
    """What was accepted with what is there."""
    for person in people:
        there = Counter(await person.reads(way))
        report.sent += len(person.kept)
        report.lost += sum(there[text] == 0 for text in person.kept)
        report.doubled += sum(count > 1 for count in there.values())
        report.unseen += sum(text not in seen for text in person.kept)
        for error, count in person.errors.items():
            report.errors[error] = report.errors.get(error, 0) + count


async def _relax(target: Target, report: Report, over_at: float, at_most: float) -> None:
    while time.time() < over_at + at_most:
        told = await asyncio.to_thread(target.look)
        report.tripped = report.tripped or told["pressed_by"] is not None
        if told["pressed_by"] is None:
            report.relaxed_after = round(time.time() - over_at, 1)
            break
        await asyncio.sleep(0.5)
    told = await asyncio.to_thread(target.look)
    report.circuits_closed, report.bugs = told["circuits_closed"], told["bugs"]
    report.memory_after = memory_of(target.pid)


# ---- what is flooded ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def on_the_socket(directory: Path) -> Iterator[Target]:
    """The web edge in a process of its own."""
    command = (sys.executable, "-m", "tests.bench.floodserver", str(directory))
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    told: list[dict[str, Any]] = []
    assert server.stdin
    assert server.stdout
    stdin, lines = server.stdin, server.stdout
    told.append(json.loads(lines.readline()))

    def hear() -> None:
        for line in lines:
            told[0] = json.loads(line)

    def put_forward(seconds: float) -> None:
        stdin.write(f"{seconds}\n")
        stdin.flush()

    hearing = threading.Thread(target=hear, daemon=True)
    hearing.start()
    socket = directory / "web.sock"
    try:
        yield Target(
            Way(HOST, socket=socket), {"host": HOST, "socket": str(socket)}, lambda: told[0], server.pid, put_forward
        )
    finally:
        stdin.close()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        hearing.join(5)
        lines.close()


@contextlib.contextmanager
def through_tor(directory: Path) -> Iterator[Target]:
    """A whole appliance, whose page is an onion, with Prosody behind another one."""
    with PrivateTorNetwork() as net, Prosody(accounts=PASSWORDS) as prosody:
        onion, close = net.onion_service(prosody.port)
        data = directory / "data"
        set_up(data, prosody, host=onion, port=5222, torrc_lines=net.torrc_lines)
        try:
            with Appliance(data) as appliance:
                host = appliance.wait_for_onion().removeprefix("http://").partition("/")[0]
                appliance.wait_until("online", is_online)
                assert appliance.process
                flooded = {"host": host, "socks": list(net.socks)}
                way = Way(host, socks=net.socks)
                yield Target(way, flooded, lambda: _told(appliance), appliance.process.pid)
        finally:
            close()


def _told(appliance: Appliance) -> dict[str, Any]:
    status, numbers = appliance.status(), _metrics(appliance)
    return {
        "pressed_by": status["pressed_by"],
        "remembered": int(numbers.get("remembered", 0)),
        "circuits_closed": int(numbers.get("circuits_closed_total", 0)),
        "bugs": 0,
    }


def _metrics(appliance: Appliance) -> dict[str, float]:
    told = ask(appliance.data, "metrics")
    assert told
    found = re.findall(r"^veilsupport_(\w+) ([\d.e+]+)$", told["text"], re.MULTILINE)
    return {name: float(value) for name, value in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--tor", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flood") as directory:
        made = through_tor if asked.tor else on_the_socket
        with made(Path(directory)) as target:
            report = asyncio.run(
                flood(
                    target,
                    seconds=asked.seconds,
                    visitors=asked.visitors,
                    scale=asked.scale,
                    relax_seconds=4 * CALM_SECONDS,
                )
            )
    print(json.dumps(report.__dict__, indent=2) if asked.json else report.table())


if __name__ == "__main__":
    main()
