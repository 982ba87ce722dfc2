"""SIGKILL at random moments under load: what was accepted is on both sides once and in order, and the file is whole.

Twenty visitors (pages without scripts, REST and WebSockets) and two admins write all the time. Whoever gets no answer
sends the same again, as a browser's reload or an SDK does. After each kill the database that is left, as it would lie
on a powered-off disk, passes `integrity_check`.

    python -m tests.live.test_kill --kills 200        or VEILSUPPORT_KILLS=200 for pytest

It has been seen to fail with an answer that goes out before the commit, and with a client's id that is not remembered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import random
import re
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.browser import Browser
from tests.live.appliance import Appliance, run_command
from tests.live.maindesk import is_online
from tests.live.overhttp import browser_at
from tests.live.phone import Phone
from tests.live.prosody import Prosody
from tests.ports import free_port

KILLS: Final = int(os.environ.get("VEILSUPPORT_KILLS", "5"))
VISITORS: Final = 20
ADMINS: Final = ("ada", "bert")
PASSWORDS: Final = {"desk": "desk-password", "ada": "ada-password", "bert": "bert-password"}
GONE: Final = (OSError, http.client.HTTPException, WebSocketException, TimeoutError)
_LINE: Final = re.compile(r"(?:o|i-\w+-)(\d+)-(\d+)")  # o7-3: the fourth of visitor 7; i-ada-7-3: Ada's, to them


class Run:
    """What all who take part share."""

    def __init__(self, appliance: Appliance, page: str, chance: random.Random) -> None:
        self.appliance = appliance
        self.page = page
        self.chance = chance
        self.over = asyncio.Event()  # no new lines; whoever waits for an answer goes on asking
        self.retries = 0
        self.refused: Counter[int] = Counter()

    async def pause(self, least: float, most: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), self.chance.uniform(least, most))

    async def retry(self) -> None:
        self.retries += 1
        await asyncio.sleep(self.chance.uniform(0.02, 0.2))

    def was_accepted(self, status: int) -> bool:
        """False: refused for now, in words."""
        assert status < 500 or status == 503, f"answered with {status}\n{self.appliance.output[-2000:]}"
        if status >= 400:
            self.refused[status] += 1
        return status < 400


class Visitor:
    """Writes one line after the other; the next when the one before was accepted."""

    def __init__(self, run: Run, number: int) -> None:
        self.run = run
        self.number = number
        self.token = ""
        self.accepted: list[str] = []

    async def live(self) -> None:
        while not self.run.over.is_set():
            await self.say(f"o{self.number}-{len(self.accepted)}")
            await self.run.pause(0.3, 2.5)

    async def say(self, body: str) -> None:
        """Until it was accepted."""
        once = f"n{len(self.accepted)}"
        while not await self.try_to(body, once):
            await self.run.retry()
        self.accepted.append(body)

    async def try_to(self, body: str, once: str) -> bool:
        raise NotImplementedError

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return await asyncio.to_thread(self._call, method, path, body)

    def _call(self, method: str, path: str, body: object) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.run.page).netloc, timeout=20)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            if body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None

    async def arrive(self) -> bool:
        if not self.token:
            status, answer = await self.call("POST", "/auth/anonymous")
            if self.run.was_accepted(status):
                self.token = answer["token"]
        return bool(self.token)

    async def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        more = True
        while more:
            after = found[-1]["seq"] if found else 0
            status, answer = await self.call("GET", f"/chat/history?limit=200&after={after}")
            if status == 200:
                found += answer["messages"]
                more = answer["more"]
            else:
                assert status == 429
                await asyncio.sleep(1)
        return found


class ByRest(Visitor):
    async def try_to(self, body: str, once: str) -> bool:
        with contextlib.suppress(*GONE):
            if await self.arrive():
                status, _ = await self.call("POST", "/chat/send", {"message": body, "id": once})
                return self.run.was_accepted(status)
        return False


class ByPage(Visitor):
    """A form that got no answer is sent again as it was: the browser's reload."""

    def __init__(self, run: Run, number: int) -> None:
        super().__init__(run, number)
        self._browser: Browser = browser_at(run.page)
        self._form: dict[str, str] = {}

    async def try_to(self, body: str, once: str) -> bool:
        page = "/chat/compose" if self.token else "/"
        with contextlib.suppress(*GONE):
            if not self._form:
                shown = await self._browser.get(page)
                if not self.run.was_accepted(shown.status):
                    return False
                self._form = {**shown.hidden(), "message": body}
            answer = await self._browser.post(page, self._form)
            if self.run.was_accepted(answer.status):
                assert answer.status == 303, answer.text
                self.token = self._browser.cookie.partition("=")[2]
                self._form = {}
                return True
        return False


class BySocket(Visitor):
    """Stays connected, and after a break asks for what is newer than what it has."""

    def __init__(self, run: Run, number: int) -> None:
        super().__init__(run, number)
        self.heard: list[tuple[int, str]] = []  # seq and words, in the order in which they came
        self._socket: Any = None

    async def try_to(self, body: str, once: str) -> bool:
        try:
            if self._socket is None:
                await self._connect()
            async with asyncio.timeout(10):
                await self._socket.send(json.dumps({"type": "message", "content": body, "id": once}))
                while (frame := await self._hear())["type"] not in ("ack", "error"):
                    pass
            if frame["type"] == "ack":
                return True
            self.run.refused[429] += 1
            assert frame["error"]["code"] in ("too_fast", "unavailable"), frame
        except GONE:
            await self.hang_up()
        return False

    async def _connect(self) -> None:
        if not await self.arrive():
            raise TimeoutError
        self._socket = await connect(f"{self.run.page.replace('http', 'ws', 1)}/api/v1/ws", proxy=None)
        after = self.heard[-1][0] if self.heard else 0
        await self._socket.send(json.dumps({"type": "auth", "token": self.token, "after": after}))
        assert (await self._hear())["type"] == "ready"

    async def _hear(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self._socket.recv())
        is_known = any(seq == frame.get("seq") for seq, _ in self.heard)
        if frame["type"] == "message" or (frame["type"] == "ack" and not is_known):  # an ack may be the second for one
            self.heard.append((frame["seq"], frame["content"]))
        return frame

    async def hang_up(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(*GONE):
                await self._socket.close()
        self._socket = None

    async def hear_the_rest(self, last: int) -> None:
        async with asyncio.timeout(20):
            while not self.heard or self.heard[-1][0] < last:
                try:
                    if self._socket is None:
                        await self._connect()
                    await self._hear()
                except GONE:
                    await self.hang_up()


class AdminAtWork:
    """Answers in each room that rings, again and again."""

    def __init__(self, run: Run, name: str, phone: Phone) -> None:
        self.run = run
        self.name = name
        self.phone = phone
        self.said: Counter[str] = Counter()  # by room

    def rooms(self) -> dict[str, int]:
        """The visitors' rooms that have rung, with the visitor's number."""
        lines = [(room, _LINE.fullmatch(got.body)) for room, all_ in self.phone.room_inbox.items() for got in all_]
        return {room: int(found[1]) for room, found in lines if found}

    async def live(self) -> None:
        while not self.run.over.is_set():
            rooms = self.rooms()
            for room in [room for room in rooms if not self.said[room]] or self.run.chance.sample(
                [*rooms], k=bool(rooms)
            ):
                self.phone.room_say(room, f"i-{self.name}-{rooms[room]}-{self.said[room]}")
                self.said[room] += 1
            await self.run.pause(0.1, 0.8)

    def seen(self, room: str, side: str) -> list[str]:
        """The lines of one side in a room, in the order in which the room shows them."""
        bodies = [got.body for got in self.phone.room_inbox.get(room, ())]
        return [body for body in bodies if body.startswith(side) and _LINE.fullmatch(body)]


# ---- the run -----------------------------------------------------------------------------------------------------


async def kill_again_and_again(run: Run, kills: int) -> Counter[str]:
    """At any moment: of the start, of signing in and catching up, of work."""
    moments: Counter[str] = Counter()
    for number in range(kills):
        if run.chance.random() < 0.3:
            await asyncio.sleep(run.chance.uniform(0.1, 2.0))
            moments["while it starts"] += 1
        else:
            await asyncio.to_thread(run.appliance.wait_until, "online", is_online)
            await asyncio.sleep(run.chance.uniform(0.0, 2.5))
            moments["at work"] += 1
        await asyncio.to_thread(run.appliance.kill)
        assert integrity(run.appliance.data) == "ok", f"after kill {number + 1}"
        run.appliance.start()
    return moments


def integrity(data: Path) -> str:
    """What SQLite says of the file as the kill left it; of a copy, so that the appliance itself has to mend it."""
    database = data / "veilsupport.sqlite"
    if not database.exists():
        return "ok"  # it was killed before it made one
    with tempfile.TemporaryDirectory() as directory:
        for file in data.glob("veilsupport.sqlite*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, directory)
        with contextlib.closing(sqlite3.connect(Path(directory) / database.name)) as copy:
            assert copy.execute("PRAGMA foreign_key_check").fetchall() == []
            return str(copy.execute("PRAGMA integrity_check").fetchone()[0])


def visitors_of(run: Run) -> list[Visitor]:
    kinds: tuple[type[Visitor], ...] = (ByPage, ByRest, BySocket)
    return [kinds[number % 3](run, number) for number in range(VISITORS)]


async def settled(run: Run, visitors: list[Visitor], admins: list[AdminAtWork]) -> None:
    """Until all is there, and a little longer for what may come twice."""
    told = run.appliance.wait_until
    await asyncio.to_thread(told, "online", is_online)
    await asyncio.to_thread(told, "all handed over", lambda told: told["waiting_to_be_delivered"] == 0, seconds=120)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while await faults_of(visitors, admins):
                await asyncio.sleep(1)
    await asyncio.sleep(1)
    assert await faults_of(visitors, admins) == []


async def faults_of(visitors: list[Visitor], admins: list[AdminAtWork]) -> list[str]:
    """In words."""
    found = []
    for admin in admins:
        room_of = {number: room for room, number in admin.rooms().items()}
        for visitor in visitors:
            seen = admin.seen(room_of.get(visitor.number, ""), "o")
            found += differences(f"{admin.name} of visitor {visitor.number}", seen, visitor.accepted)
    rooms = {number: room for room, number in admins[0].rooms().items()}
    for visitor in visitors:
        history = await visitor.history()
        own = [message["content"] for message in history if message["author"] == "user"]
        found += differences(f"visitor {visitor.number} of themselves", own, visitor.accepted)
        answers = [message["content"] for message in history if message["author"] == "admin"]
        room = rooms.get(visitor.number, "")
        found += differences(f"visitor {visitor.number} of the room", answers, admins[0].seen(room, "i"))
        for admin in admins:
            wanted = [f"i-{admin.name}-{visitor.number}-{each}" for each in range(admin.said[room])]
            said = [answer for answer in answers if answer.startswith(f"i-{admin.name}-")]
            found += differences(f"visitor {visitor.number} of {admin.name}", said, wanted)
        if isinstance(visitor, BySocket):
            await visitor.hear_the_rest(history[-1]["seq"])
            everything = [(message["seq"], message["content"]) for message in history]
            found += [f"visitor {visitor.number} heard otherwise"] if visitor.heard != everything else []
    return found


def differences(who: str, got: list[str], wanted: list[str]) -> list[str]:
    """In words; none when they are the same."""
    counted = Counter(got)
    found = [f"{who}: {each} is missing" for each in wanted if not counted[each]]
    found += [f"{who}: {each} is there {times} times" for each, times in counted.items() if times > 1]
    found += [f"{who}: {each} was never accepted" for each in counted.keys() - set(wanted)]
    return found or ([f"{who}: in another order"] if got != wanted else [])


async def story(data: Path, server: Prosody, *, kills: int, seed: int) -> str:
    """The whole run; its figures in a line."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(VISITORS + 4))
    began = time.monotonic()
    port = free_port()
    with Appliance(data, "--no-tor", "--port", str(port)) as appliance:
        run = Run(appliance, f"http://127.0.0.1:{port}", random.Random(seed))
        async with contextlib.AsyncExitStack() as stack:
            phones = [await stack.enter_async_context(phone(server, name)) for name in ADMINS]
            admins = [AdminAtWork(run, name, each) for name, each in zip(ADMINS, phones, strict=True)]
            visitors = visitors_of(run)
            async with asyncio.TaskGroup() as tasks:
                for life in (*(each.live() for each in visitors), *(each.live() for each in admins)):
                    tasks.create_task(life)
                moments = await kill_again_and_again(run, kills)
                run.over.set()
            await settled(run, visitors, admins)
        assert await asyncio.to_thread(appliance.stop) == 0
        assert integrity(data) == "ok"
    out, back = sum(len(each.accepted) for each in visitors), sum(sum(each.said.values()) for each in admins)
    return (
        f"{kills} kills {dict(moments)}: {out} lines out, {back} back, {run.retries} sent again, refused for now"
        f" {dict(run.refused)}, {time.monotonic() - began:.0f} s"
    )


def phone(server: Prosody, name: str) -> Phone:
    return Phone(server.jid(name), PASSWORDS[name], desk=server.jid("desk"), port=server.port)


def set_up(data: Path, server: Prosody, *, passwords: Mapping[str, str] = PASSWORDS) -> None:
    answers = ["--jid", server.jid("desk"), "--host", "127.0.0.1", "--port", str(server.port)]
    answers += ["--certificate", server.fingerprint]
    for name in ADMINS:
        answers += ["--admin", f"{server.jid(name)}={name.title()}"]
    done = run_command("setup", "--data", str(data), *answers, env={"VEILSUPPORT_XMPP_PASSWORD": passwords["desk"]})
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def a_desk(directory: Path) -> Iterator[Prosody]:
    with Prosody(accounts=PASSWORDS) as server:
        set_up(directory, server)
        yield server


def test_kills_at_any_moment_lose_and_double_nothing(tmp_path: Path) -> None:
    with a_desk(tmp_path / "data") as server:
        print(asyncio.run(story(tmp_path / "data", server, kills=KILLS, seed=random.randrange(2**32))))


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-") as directory, a_desk(Path(directory) / "data") as server:
        print(asyncio.run(story(Path(directory) / "data", server, kills=given.kills, seed=given.seed)))


if __name__ == "__main__":
    main()
