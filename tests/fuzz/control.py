"""Lines on the control socket of a running appliance, which is a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tests.fuzz.chance import MARK, Chance
from tests.fuzz.run import Take
from tests.live.appliance import Appliance
from tests.ports import free_port
from veilsupport.controlsocket import STATUS_SOCKET

_WORDS: Final = (
    "status",
    "live",
    "ready",
    "metrics",
    "reload",
    "desk",
    "archive",
    "expire",
    "desk",
    "archive",
    "expire",
)
_GROWS_KIB: Final = 48 << 10


def make(chance: Chance) -> bytes:
    word = chance.word(*_WORDS)
    match chance.random.randrange(4):
        case 0:
            rest = json.dumps(chance.fields(enable=lambda: "00" * 32, disable=lambda: False, site=chance.text))
        case 1:
            fields = chance.fields(retention_days=chance.number, idle_days=chance.number, dry_run=lambda: True)
            rest = json.dumps(fields)
        case 2:
            rest = json.dumps(
                chance.one_of("!", "") + chance.word("list", "who", "hours off", "help") + " " + chance.text()
            )
        case _:
            rest = json.dumps(chance.value()) if chance.happens(0.9) else "[" * 60_000
    return chance.bent(f"{word} {rest}".encode("utf-8", "replace"), share=0.2) + b"\n"


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Take]:
    with Appliance(directory / "data", "--no-tor", "--port", str(free_port()), "--verbose") as appliance:
        appliance.wait_for_page()
        assert appliance.process is not None
        memory = Path(f"/proc/{appliance.process.pid}/statm")
        taken, warm = 0, 0

        async def take(case: bytes) -> None:
            nonlocal taken, warm
            answer = await ask(appliance.data / STATUS_SOCKET, case)
            for line in answer.splitlines():
                assert isinstance(json.loads(line), dict), line
            assert answer or len(case) > 60_000, "no answer"
            assert MARK not in appliance.output, appliance.output[-500:]
            assert "error" not in appliance.output.lower(), appliance.output[-500:]
            taken += 1
            warm = warm or (taken > 200) * _resident_kib(memory)
            assert not warm or _resident_kib(memory) - warm < _GROWS_KIB, "it grows"

        yield take
        assert appliance.status()["ready"] in (True, False)
        assert await asyncio.to_thread(appliance.stop) == 0


def _resident_kib(memory: Path) -> int:
    return int(memory.read_text().split()[1]) * 4


async def ask(path: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        writer.write(line)
        writer.write_eof()
        return await reader.read()
    return b""
