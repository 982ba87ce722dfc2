"""The admins' side of the benchmark: one admin's phone, a process of its own on the generator's core.

    python -m tests.bench.phoneload        a job of JSON on each line of stdin, its outcome on a line of stdout

    open       {"jid", "password", "desk", "port"}: sign in, and wait until the desk shows itself
    watch      {"seconds"}: {"seen": pairs of a visitor's message's number and its instant, "aliases": {number: alias}},
               of everything that arrived since the outcome of the watch before
    answer     {"aliases", "per_second", "seconds", "first_number", "bytes"}: so many lines a second to those visitors
               in turn, whatever happens; {"said": pairs of a number and the instant when it was due}

Every outcome has `busy`: which part of its core this process used meanwhile. Numbers and instants are the generator's
(generator.py). With a room for each visitor, an "alias" is the room's JID. The phone is the live tests' own: it
answers receipts and follows invitations. It is made with slixmpp, and takes about as much CPU for a line as the bridge.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from typing import Any, Final

from tests.bench import jobs
from tests.live.phone import Phone

_LINE: Final = re.compile(r"(?:\[(?P<alias>[a-z]+-[0-9]+)\] )?c(?P<number>\d+)\. ")
_FIRST_NUMBER: Final = 1_000_000  # the generator does not count so far
_DESK_SECONDS: Final = 60.0
_BODY: Final = "{jabber:client}body"


class AdminPhone(Phone):
    """Notes when each visitor's line arrived, and whose it was."""

    def __init__(self, jid: str, password: str, *, desk: str, port: int) -> None:
        super().__init__(jid, password, desk=desk, port=port)
        self._seen: dict[int, float] = {}
        self._aliases: dict[int, str] = {}

    def _hear(self, stanza: Any) -> None:
        at = time.monotonic()
        found = _LINE.match(stanza.xml.findtext(_BODY) or "")
        room = stanza["from"].bare if stanza["type"] == "groupchat" else ""
        if found and not (room and stanza["from"].resource == self.rooms.get(room)):  # not our own, reflected
            number = int(found["number"])
            self._seen.setdefault(number, at)
            self._aliases.setdefault(number, room or found["alias"])
        super()._hear(stanza)

    def take(self) -> tuple[dict[int, float], dict[int, str]]:
        """What arrived since it was last asked."""
        taken = self._seen, self._aliases
        self._seen, self._aliases = {}, {}
        return taken

    def answer(self, alias: str, text: str) -> None:
        if "@" in alias:
            self.room_say(alias, text)
        else:
            self.say(f"@{alias} {text}")


class Load:
    """The phone and its jobs."""

    def __init__(self) -> None:
        self._phone: AdminPhone

    async def open(self, job: dict[str, Any]) -> dict[str, Any]:
        self._phone = AdminPhone(job["jid"], job["password"], desk=job["desk"], port=job["port"])
        await self._phone.__aenter__()
        await self._phone.when(lambda: bool(self._phone.desk_presence), seconds=_DESK_SECONDS)
        return {}

    async def watch(self, job: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(job["seconds"])
        seen, aliases = self._phone.take()
        return {"seen": list(seen.items()), "aliases": aliases}

    async def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        per_second, filler = job["per_second"], "x" * job.get("bytes", 200)
        numbers, aliases = itertools.count(job.get("first_number", _FIRST_NUMBER)), itertools.cycle(job["aliases"])
        said = []
        began = time.monotonic()
        for turn in range(int(job["seconds"] * per_second)):
            due = began + turn / per_second
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            number = next(numbers)
            said.append((number, due))
            self._phone.answer(next(aliases), f"c{number}. {filler}")
        return {"said": said}

    async def do(self, job: dict[str, Any]) -> dict[str, Any]:
        cpu, began = time.process_time(), time.monotonic()
        outcome: dict[str, Any] = await getattr(self, job["job"])(job)
        busy = (time.process_time() - cpu) / (time.monotonic() - began)
        return {**outcome, "busy": busy}


async def main() -> None:
    await jobs.serve(Load().do)


if __name__ == "__main__":
    asyncio.run(main())
