"""A short run over every surface, from one seed, so that a change is what breaks it; and what must not be is found.

VEILSUPPORT_FUZZ_CASES makes it longer; `python -m tests.fuzz` is the long one, from another seed each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fuzz.chance import Chance
from tests.fuzz.run import Found, Surface, Take, fuzz
from tests.fuzz.surfaces import SURFACES

CASES = int(os.environ.get("VEILSUPPORT_FUZZ_CASES", "10000"))
_WEIGHTS = sum(surface.weight for surface in SURFACES)


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
def test_nothing_breaks_grows_or_is_logged(surface: Surface, tmp_path: Path) -> None:
    seed = "1"
    cases = int(CASES * surface.weight / _WEIGHTS)
    grown = asyncio.run(fuzz(surface, tmp_path, cases=cases, seed=seed))
    print(f"{surface.name}: {cases} cases, {grown >> 10} KiB more, seed {seed}")


@pytest.mark.parametrize("fault", ["raises", "logs", "forgets", "hangs", "grows"])
def test_what_must_not_be_is_found(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEILSUPPORT_FUZZ_FOUND", str(tmp_path))
    monkeypatch.setattr("tests.fuzz.run._CASE_SECONDS", 0.05)
    kept: list[bytearray] = []

    @contextlib.asynccontextmanager
    async def opened(_: Path) -> AsyncIterator[Take]:
        async def take(case: bytes) -> None:
            match fault:
                case "raises":
                    raise KeyError
                case "logs":
                    logging.getLogger("any").debug("%s", case.decode())
                case "forgets":
                    asyncio.get_running_loop().call_soon(dict[str, str]().popitem)
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                case "hangs":
                    await asyncio.sleep(1)
                case "grows":
                    kept.append(bytearray(b"x" * (1 << 20)))

        yield take

    surface = Surface("bad", lambda chance: Chance.text(chance).encode(), opened, grows_bytes=16 << 20)
    with pytest.raises((Found, ExceptionGroup, AssertionError)):
        asyncio.run(fuzz(surface, tmp_path, cases=50, seed="1"))


def test_the_same_seed_makes_the_same_cases() -> None:
    for surface in SURFACES:
        first, second = ([surface.make(chance) for _ in range(20)] for chance in (Chance("1"), Chance("1")))
        assert first == second
