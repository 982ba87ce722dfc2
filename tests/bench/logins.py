"""Whether the time of an answer tells an address or a code that is known from one that is not.

    python -m tests.bench.logins --rounds 200 --repeats 5

The cases go in turn, in another order each round, so that whatever else the machine does meets all of them alike;
over the web edge with everything behind it, and no limits. For each pair: medians, the difference with its 95 %
interval (bootstrap), and Mann and Whitney's p, which is the share of luck in what is seen. A p below 0.001 that comes
again with another run would be a difference; nothing is asserted, because a busy machine is no proof.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.browser import Browser, site_of
from tests.desks import NOON, desk_in
from tests.program import SITES, Program
from veilsupport import crypto
from veilsupport.limits import Limits
from veilsupport.model import Private

PASSWORD: Final = "long enough"
_PAIRS: Final = (
    ("unknown address", "known address, wrong password"),
    ("unknown code", "another unknown code"),
    ("unknown code", "known code"),
    ("unknown address on the page", "known address on the page, wrong password"),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Milliseconds; `p` of Mann and Whitney's U, two-sided, normal approximation."""

    first: str
    second: str
    medians: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    p: float


def compared(first: Sequence[float], second: Sequence[float], names: tuple[str, str]) -> Comparison:
    chance = random.Random(1)
    again = sorted(
        statistics.median(chance.choices(second, k=len(second)))
        - statistics.median(chance.choices(first, k=len(first)))
        for _ in range(1000)
    )
    medians = statistics.median(first), statistics.median(second)
    interval = again[25], again[974]
    return Comparison(*names, medians, medians[1] - medians[0], interval, mann_whitney(first, second))


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """Ties get their middle rank."""
    order = sorted([*first, *second])
    places: dict[float, list[int]] = {}
    for place, value in enumerate(order, 1):
        places.setdefault(value, []).append(place)
    ranks = sum(statistics.mean(places[value]) for value in first)
    one, other = len(first), len(second)
    u = ranks - one * (one + 1) / 2
    spread = math.sqrt(one * other * (one + other + 1) / 12)
    return math.erfc(abs(u - one * other / 2) / spread / math.sqrt(2))


async def measured(directory: Path, rounds: int) -> list[Comparison]:
    async with desk_in(directory) as desk:
        served = site_of(desk, limits=Limits(()), sites=SITES)
        known = Private("known@mail.example")
        await desk.visitor_registers(known, Private(PASSWORD), now=NOON)
        codes = [(await desk.visitor_arrives(now=NOON))[1].reveal() for _ in range(20)]
        cases = cases_of(served.site, known.reveal(), codes)
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(rounds + 5):
            served.clock.now += 7 * 86_400  # nobody has to wait because of the guesses before
            for name in random.sample(list(cases), k=len(cases)):
                began = time.perf_counter()
                status = await cases[name]()
                taken = time.perf_counter() - began
                assert status == (200 if name == "known code" else 401 if "address" in name else 404), (name, status)
                if number >= 5:  # warm
                    seconds[name].append(taken * 1000)
    return [compared(seconds[one], seconds[two], (one, two)) for one, two in _PAIRS]


def cases_of(app: object, known: str, codes: list[str]) -> dict[str, Callable[[], Awaitable[int]]]:
    program = Program(app)  # type: ignore[arg-type]

    async def login(email: str) -> int:
        return (await program.post("/auth/login", {"email": email, "password": secrets.token_hex(6)})).status

    async def code(words: str) -> int:
        return (await program.post("/auth/return", {"code": words})).status

    async def page(email: str) -> int:
        browser = Browser(program.app, circuit=None, host=program.browser.host)
        return (await browser.send_form("/account", email=email, password=secrets.token_hex(6), enter="1")).status

    return {
        "unknown address": lambda: login(f"{secrets.token_hex(3)}@mail.example"),
        "known address, wrong password": lambda: login(known),
        "unknown code": lambda: code(crypto.new_code().reveal()),
        "another unknown code": lambda: code(crypto.new_code().reveal()),
        "known code": lambda: code(random.choice(codes)),
        "unknown address on the page": lambda: page(f"{secrets.token_hex(3)}@mail.example"),
        "known address on the page, wrong password": lambda: page(known),
    }


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.bench.logins")
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--repeats", type=int, default=2, help="runs, each in another directory")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    for _ in range(given.repeats):
        with tempfile.TemporaryDirectory() as directory:
            found = asyncio.run(measured(Path(directory), given.rounds))
        if given.json:
            print(json.dumps([asdict(each) for each in found]))
            continue
        for each in found:
            low, high = each.interval
            print(
                f"{each.first} {each.medians[0]:.2f} ms; {each.second} {each.medians[1]:.2f} ms:"
                f" {each.difference:+.3f} ms (95 %: {low:+.3f} to {high:+.3f}), p = {each.p:.3f}"
            )


if __name__ == "__main__":
    main()
