"""One run over one surface: what was found before, then cases by chance; and what must be true of all of them."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.fuzz.chance import MARK, Chance

CORPUS: Final = Path(__file__).parent / "corpus"
FOUND: Final = Path(__file__).parent / "found"
_CASE_SECONDS: Final = 20.0

Take = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Surface:
    """`make` gives a case; `opened`, in an empty directory, what takes one: it raises when something is not right."""

    name: str
    make: Callable[[Chance], bytes]
    opened: Callable[[Path], AbstractAsyncContextManager[Take]]
    clients: int = 1  # how many cases at once
    weight: float = 1.0  # its share of a run's cases
    grows_bytes: int = 24 << 20  # how much a run may add to the process, once it is warm


class Found(AssertionError):
    """A case that breaks a rule. The case is kept for the corpus."""


@dataclass(slots=True)
class Ears(logging.Handler):
    """Hears all that any logger says, as it would be written."""

    heard: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        logging.Handler.__init__(self, logging.DEBUG)
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if MARK.lower() in line.lower():
            self.heard.append(f"{record.name}: {line[:200]}")

    __hash__ = object.__hash__


def corpus(surface: Surface) -> Iterator[bytes]:
    for file in sorted((CORPUS / surface.name).glob("*")):
        yield file.read_bytes()


async def fuzz(surface: Surface, directory: Path, *, cases: int, seed: str) -> int:
    """How many bytes the process has grown by. Found: what breaks, and where the case lies."""
    ears = Ears()
    root = logging.getLogger()
    level = root.level
    root.addHandler(ears)
    root.setLevel(logging.DEBUG)
    run = _Run(surface, ears, seed)
    asyncio.get_running_loop().set_exception_handler(run.note)
    try:
        async with surface.opened(directory) as take:
            await run.all_of(take, corpus(surface))
            await run.all_of(take, run.chances(cases // 5))
            warm = await settled_bytes()
            await run.all_of(take, run.chances(cases - cases // 5))
            grown = await settled_bytes() - warm
    finally:
        root.removeHandler(ears)
        root.setLevel(level)
    assert grown < surface.grows_bytes, f"{surface.name}: {grown >> 20} MiB more after {cases} cases"
    return grown


class _Run:
    """Several clients that take one case after the other."""

    def __init__(self, surface: Surface, ears: Ears, seed: str) -> None:
        self._surface = surface
        self._ears = ears
        self._chance = Chance(f"{surface.name} {seed}")
        self._noted: list[str] = []

    def note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._noted.append(f"{context.get('message')}: {context.get('exception')!r}")

    def chances(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            self._chance.next_case()
            yield self._surface.make(self._chance)

    async def all_of(self, take: Take, cases: Iterator[bytes]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._surface.clients):
                tasks.create_task(self._client(take, cases))

    async def _client(self, take: Take, cases: Iterator[bytes]) -> None:
        for case in cases:
            try:
                async with asyncio.timeout(_CASE_SECONDS):
                    await take(case)
            except Exception as error:
                raise self._found(case, f"{type(error).__name__}: {error}") from error
            if self._ears.heard or self._noted:
                raise self._found(case, str(self._ears.heard or self._noted))

    def _found(self, case: bytes, why: str) -> Found:
        directory = Path(os.environ.get("VEILSUPPORT_FUZZ_FOUND", FOUND))
        directory.mkdir(exist_ok=True)
        file = directory / f"{self._surface.name}-{zlib.crc32(case):08x}"
        file.write_bytes(case)
        return Found(
            f"{self._surface.name}: {why}\n{case[:400]!r}\nthe case is in {file}; once mended, keep it in corpus/"
        )


async def settled_bytes() -> int:
    """What the process holds when nobody asks anything, and what is free has gone back to the system."""
    await asyncio.sleep(0.5)  # a password that is being hashed takes 64 MiB
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
