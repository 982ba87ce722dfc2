"""The longer run: python -m tests.fuzz --cases 300000"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from tests.fuzz.run import Surface, fuzz
from tests.fuzz.surfaces import SURFACES


async def replay(surface: Surface, directory: Path, case: bytes) -> None:
    async with surface.opened(directory) as take:
        await take(case)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.fuzz")
    options.add_argument("--cases", type=int, default=300_000, help="over all surfaces")
    options.add_argument("--seed", default=str(int(time.time())))
    options.add_argument("--only", choices=[surface.name for surface in SURFACES])
    options.add_argument("--replay", type=Path, help="one case, of the surface that --only names")
    given = options.parse_args()
    chosen = [surface for surface in SURFACES if given.only in (None, surface.name)]
    whole = sum(surface.weight for surface in chosen)
    for surface in chosen:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
            if given.replay:
                asyncio.run(replay(surface, Path(directory), given.replay.read_bytes()))
                continue
            cases = int(given.cases * surface.weight / whole)
            grown = asyncio.run(fuzz(surface, Path(directory), cases=cases, seed=given.seed))
        seconds = time.monotonic() - began
        print(f"{surface.name}: {cases} cases, {grown >> 10} KiB more, {seconds:.0f} s, seed {given.seed}", flush=True)


if __name__ == "__main__":
    main()
