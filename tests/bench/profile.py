"""Where the time goes on each hot path: the product does that one thing while py-spy looks on.

    python -m tests.bench.profile [--quick] [--only NAME …]

Two looks at each. `gil`: samples of whoever holds the interpreter's lock, which is what the loop is busy with.
`running`: samples of every thread that py-spy takes to be at work, so also those in C without the lock: hashes, seals,
SQLite. It takes some that only wait to be at work as well; what is known to wait is left out.

Each has the ten largest costs, as shares of its samples. `ours`: by function of the package, with all that it calls,
without what stands around every path (the program's start). `ours_alone`: the same, but without what it has other
functions of the package do. `own`: by any function, without what it calls. A path that lets the process rest has few
samples; how many a second there were is told.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.bench import filling
from tests.bench.asking import Line
from tests.bench.processes import LOAD_CORE, Generator, Pinned
from tests.bench.product import PASSWORD, AdminsServer, Product
from tests.bench.surroundings import prepare

Look = dict[str, Any]  # {"samples_per_second": float, "ours": [[share, function], …], "ours_alone", "own": the same}
_LARGEST: Final = 10
_RATE: Final = 250  # samples a second; each stops the process for a moment
_MARGIN_SECONDS: Final = 3.0  # py-spy takes some time to begin
_PEOPLE: Final = 100
_LINES_PER_SECOND: Final = 40
_LINE_NUMBER: Final = re.compile(r":\d+\)$")
_WAITS: Final = (
    *("Condition.wait (threading.py)", "EpollSelector.select (selectors.py)", "_worker (concurrent/futures/thread.py)"),
    "Event.wait (threading.py)",
)
_AROUND: Final = ("veilsupport/cli/", "veilsupport/app.py", "veilsupport/garbage.py")

Busy = Callable[[float], None]  # keeps that one thing going for so many seconds
Way = Callable[[contextlib.ExitStack, Path], tuple[Product, Busy]]


def profiles(only: Iterable[str], *, seconds: float) -> dict[str, dict[str, Look]]:
    """By path and look."""
    return {name: _profiled(PATHS[name], seconds) for name in only}


def _profiled(way: Way, seconds: float) -> dict[str, Look]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        product, busy = way(stack, directory)
        busy(1.0)  # the first time takes another path
        return {
            look: _looked(directory / look, product.pid, busy, seconds, flags)
            for look, flags in (("gil", ["--gil"]), ("running", []))
        }


def _looked(file: Path, pid: int, busy: Busy, seconds: float, flags: list[str]) -> Look:
    """RuntimeError: py-spy could not look."""
    spy = str(Path(sys.executable).with_name("py-spy"))
    words = ["record", *flags, "--format", "raw", "--rate", str(_RATE), "--duration", str(max(1, round(seconds)))]
    errors = file.with_suffix(".log")
    with Pinned([spy, *words, "--output", str(file), "--pid", str(pid)], core=LOAD_CORE, errors=errors) as child:
        busy(seconds + _MARGIN_SECONDS)
        if child.process.wait(60) != 0:
            raise RuntimeError(f"py-spy could not look: {errors.read_text()[-500:]}")
    return costs(file.read_text().splitlines(), seconds, waits=() if flags else _WAITS)


def costs(lines: Iterable[str], seconds: float, *, waits: Collection[str] = ()) -> Look:
    """Of py-spy's raw format: `outermost;…;innermost count`. RuntimeError: nothing was to be seen."""
    ours: collections.Counter[str] = collections.Counter()
    ours_alone: collections.Counter[str] = collections.Counter()
    own: collections.Counter[str] = collections.Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [_LINE_NUMBER.sub(")", frame) for frame in stack.split(";")]
        if frames[-1] in waits:
            continue
        own[frames[-1]] += int(count)
        if of_us := [frame for frame in frames if _is_ours(frame)]:
            ours_alone[of_us[-1]] += int(count)
            ours.update(dict.fromkeys(of_us, int(count)))
    total = own.total()
    if not total:
        raise RuntimeError("py-spy has seen nobody at work")

    def largest(counts: collections.Counter[str]) -> list[list[Any]]:
        return [[round(count / total, 3), name] for name, count in counts.most_common(_LARGEST)]

    counted = {"ours": ours, "ours_alone": ours_alone, "own": own}
    return {"samples_per_second": total / seconds, **{name: largest(each) for name, each in counted.items()}}


def _is_ours(frame: str) -> bool:
    place = frame.rpartition("(")[2]
    return place.startswith("veilsupport/") and not place.startswith(_AROUND)


# ---- the paths -------------------------------------------------------------------------------------------------------


def _message(stack: contextlib.ExitStack, directory: Path) -> tuple[Product, Busy]:
    """Over the WebSocket, and seen on the sender's other device; the next one when it is accepted."""
    product = stack.enter_context(Product(directory / "data"))
    load = _visitors(stack, product, devices=2)
    return product, lambda seconds: load.do("closed", seconds=seconds)


def _to_phone(stack: contextlib.ExitStack, directory: Path) -> tuple[Product, Busy]:
    """A visitor's line is accepted and handed over; the phone's receipt comes back."""
    product, load, _ = _with_admin(stack, directory)
    return product, lambda seconds: load.do("paced", seconds=seconds, per_second=_LINES_PER_SECOND)


def _answer(stack: contextlib.ExitStack, directory: Path) -> tuple[Product, Busy]:
    """An admin's line comes in and is shown to the visitor."""
    product, load, phone = _with_admin(stack, directory)
    load.do("paced", seconds=_PEOPLE / _LINES_PER_SECOND, per_second=_LINES_PER_SECOND)
    aliases = sorted(set(phone.do("watch", seconds=2)["aliases"].values()))
    return product, lambda seconds: phone.do("answer", aliases=aliases, per_second=_LINES_PER_SECOND, seconds=seconds)


def _reconnection(stack: contextlib.ExitStack, directory: Path) -> tuple[Product, Busy]:
    """All drop, and are back at once, with a message that they have seen before."""
    product = stack.enter_context(Product(directory / "data"))
    tokens = product.accounts(_PEOPLE)
    product.stop()
    filling.converse(product.data, tokens, each=10)
    product.restart()
    load = stack.enter_context(Generator())

    def once() -> None:
        load.open(dialect="desk", port=product.port, accounts=tokens, after=10)
        load.do("close", abrupt=True, pause=0)

    return product, lambda seconds: _again(once, seconds)


def _history(stack: contextlib.ExitStack, directory: Path) -> tuple[Product, Busy]:
    """The page of fifty older messages, as the browser without scripts asks for it."""
    product = stack.enter_context(Product(directory / "data"))
    (token,) = product.accounts(1)
    product.stop()
    filling.converse(product.data, [token])
    product.restart()
    line = stack.enter_context(Line(product.port, token))
    return product, lambda seconds: _again(lambda: line.must("GET", f"/chat/older?before={filling.EACH // 2}"), seconds)


def _log_in(stack: contextlib.ExitStack, directory: Path) -> tuple[Product, Busy]:
    """With e-mail and password, two at a time."""
    product = stack.enter_context(Product(directory / "data"))
    person = {"email": "person@mail.example", "password": "long enough"}
    lines = [stack.enter_context(Line(product.port)) for _ in range(2)]
    lines[0].must("POST", "/api/v1/auth/register", person)

    def busy(seconds: float) -> None:
        with ThreadPoolExecutor(len(lines)) as pool:
            for _ in pool.map(
                lambda line: _again(lambda: line.must("POST", "/api/v1/auth/login", person), seconds), lines
            ):
                pass

    return product, busy


PATHS: Final[dict[str, Way]] = {
    "message": _message,
    "to_phone": _to_phone,
    "answer": _answer,
    "reconnection": _reconnection,
    "history_page": _history,
    "log_in": _log_in,
}


def _visitors(stack: contextlib.ExitStack, product: Product, *, devices: int) -> Generator:
    load = stack.enter_context(Generator())
    load.open(dialect="desk", port=product.port, accounts=product.accounts(_PEOPLE), devices=devices)
    return load


def _with_admin(stack: contextlib.ExitStack, directory: Path) -> tuple[Product, Generator, Generator]:
    """(the product, its visitors, the admin's phone)."""
    server = stack.enter_context(AdminsServer())
    product = stack.enter_context(Product(directory / "data", server=server))
    load = _visitors(stack, product, devices=1)
    phone = stack.enter_context(Generator(module="tests.bench.phoneload"))
    phone.do("open", jid=server.jid("admin"), password=PASSWORD, desk=server.jid("desk"), port=server.port)
    return product, load, phone


def _again(act: Callable[[], object], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        act()


# ---- telling ---------------------------------------------------------------------------------------------------------


def told(found: dict[str, dict[str, Look]]) -> str:
    lines = []
    for (path, looks), kind in itertools.product(found.items(), ("gil", "running")):
        look = looks[kind]
        lines.append(f"== {path}, {kind}: {look['samples_per_second']:.0f} samples a second of {_RATE}")
        for title in ("ours", "ours_alone", "own"):
            lines += [f"   {title:10} {100 * share:5.1f} %  {name}" for share, name in look[title]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time goes on each hot path.")
    parser.add_argument("--quick", action="store_true", help="two seconds each, to see that it works")
    parser.add_argument("--only", nargs="+", choices=PATHS, default=list(PATHS), metavar="NAME")
    parser.add_argument("--json", type=Path, help="where the costs go as well")
    asked = parser.parse_args()
    prepare()
    found = profiles(asked.only, seconds=seconds_of(quick=asked.quick))
    print(told(found))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


def seconds_of(*, quick: bool) -> float:
    return 2.0 if quick else 8.0


if __name__ == "__main__":
    main()
