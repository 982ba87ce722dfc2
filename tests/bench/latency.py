"""How long it takes from one person to the other, while so many others look on.

python -m tests.bench.latency [--quick]

The admins' side is a real Prosody, with its archive, and one phone; everybody is in one chat with the desk (form
`direct`). Of the visitors some have a second device, every other one as a stream for browsers without scripts. Times of
what visitors say count from when it was due (open loop), so a pause of the server counts in full; `accepted_seen`
counts from the sender's ack.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.bench.figures import Figures, Scale, alone, spread
from tests.bench.processes import Generator
from tests.bench.product import PASSWORD, Product, admins_server

_SPEAKERS: Final = 200
_VISITORS_PER_SECOND: Final = 200
_TO_ADMIN_PER_SECOND: Final = 20  # what an admin's server and phone carry without a queue
_FIRST_OF_ADMIN: Final = 1_000_000_000


def measure(scale: Scale) -> Figures:
    figures: Figures = {}
    for visitors in scale.live:
        with contextlib.ExitStack() as stack:
            for name, value in _measured(stack, visitors, scale.latency_seconds).items():
                figures[f"live_{visitors}_{name}"] = value
    return figures


def _measured(stack: contextlib.ExitStack, visitors: int, seconds: float) -> Figures:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = stack.enter_context(admins_server())
    product = stack.enter_context(Product(directory / "product", server=server))
    speakers = min(_SPEAKERS, visitors // 2)
    # Speakers' second devices are visitors' pages like any other: so many live ones there are in all.
    tokens = product.accounts(visitors - speakers)
    load = stack.enter_context(Generator())
    for dialect, whose, device in (
        ("desk", tokens, 0),
        ("desk", tokens[: speakers // 2], 1),
        ("stream", tokens[speakers // 2 : speakers], 1),
    ):
        opened = load.do("open", dialect=dialect, host="127.0.0.1", port=product.port, accounts=whose, only=[device])
        if opened["failed"]:
            raise RuntimeError(f"{len(opened['failed'])} did not come in: {opened['failed'][0]}")
    phone = stack.enter_context(Generator(module="tests.bench.phoneload"))
    phone.do("open", jid=server.jid("admin"), password=PASSWORD, desk=server.jid("desk"), port=server.port)
    slowly = load.do("paced", seconds=seconds, per_second=_TO_ADMIN_PER_SECOND, senders=speakers)
    on_phone = phone.do("watch", seconds=2)
    answers = _answered(load, phone, sorted(set(on_phone["aliases"].values())), seconds)
    quickly = load.do("paced", seconds=seconds, per_second=_VISITORS_PER_SECOND, senders=speakers)
    return {
        **_between(slowly["accepted"], on_phone["seen"], "accepted_phone"),
        **answers,
        **_between(quickly["said"], quickly["seen"], "said_seen"),
        **_between(quickly["accepted"], quickly["seen"], "accepted_seen"),
        "lost": quickly["lost"] + slowly["lost"],
        "generator_busy": quickly["busy"],
    }


def _answered(load: Generator, phone: Generator, aliases: list[str], seconds: float) -> Figures:
    """The admin writes to each in turn, to half of them on a stream and to half on a socket."""
    load.tell(json.dumps({"job": "watch", "seconds": seconds + 2}))
    said = phone.do(
        "answer",
        aliases=aliases,
        per_second=_TO_ADMIN_PER_SECOND,
        seconds=seconds,
        first_number=_FIRST_OF_ADMIN,
    )["said"]
    seen = json.loads(load.line())["seen"]
    firsts: dict[int, float] = {}
    lasts: dict[int, float] = {}
    for number, at in seen:
        firsts.setdefault(number, at)
        lasts[number] = at
    return {
        **_between(said, firsts.items(), "admin_first_device"),
        **_between(said, lasts.items(), "admin_last_device"),
    }


def _between(begun: Any, ended: Any, name: str) -> Figures:
    """Milliseconds from each number's first instant to its second. RuntimeError: something did not arrive."""
    began: Mapping[int, float] = dict(map(tuple, begun))
    waits = [1000 * max(0.0, at - began[number]) for number, at in ended if number in began]
    arrived = {number for number, _ in ended}
    if missing := sum(number not in arrived for number in began):
        raise RuntimeError(f"{name}: {missing} of {len(began)} did not arrive")
    return spread(waits, name, "ms")


if __name__ == "__main__":
    alone(measure)
