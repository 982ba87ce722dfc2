"""How long it takes from one person to the other, while so many others look on.

python -m tests.bench.latency [--quick]

The admins' side is a real Prosody, with its archive, and one phone; everybody is in one chat with the desk (form
`direct`). Of the visitors some speak, and have a second device: half of them a socket, half of them a stream for
browsers without scripts. Figures of `said` and `admin` count from when it was due (open loop), so a pause of the server
counts in full; those of `accepted` from the sender's ack, and are nothing where the other device has it before.
What visitors say quickly goes to the admins too, who are then behind.
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
from tests.bench.product import PASSWORD, AdminsServer, Product

_SPEAKERS: Final = 200
_VISITORS_PER_SECOND: Final = 200
_TO_ADMIN_PER_SECOND: Final = 20  # what an admin's server and phone carry without a queue
_FIRST_OF_ADMIN: Final = 1_000_000_000
_LATE_SECONDS: Final = 2.0  # after the last was said; what takes longer has not arrived


def measure(scale: Scale) -> Figures:
    figures: Figures = {}
    for visitors in scale.live:
        with contextlib.ExitStack() as stack:
            for name, value in _measured(stack, visitors, scale.latency_seconds).items():
                figures[f"live_{visitors}_{name}"] = value
    return figures


def _measured(stack: contextlib.ExitStack, visitors: int, seconds: float) -> Figures:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = stack.enter_context(AdminsServer())
    product = stack.enter_context(Product(directory / "product", server=server))
    speakers = min(_SPEAKERS, visitors // 2)
    # Speakers' second devices are visitors' pages like any other: so many live ones there are in all.
    tokens = product.accounts(visitors - speakers)
    load, streams = stack.enter_context(Generator()), stack.enter_context(Generator())
    load.open(dialect="desk", port=product.port, accounts=tokens, only=[0])
    load.open(dialect="desk", port=product.port, accounts=tokens[: speakers // 2], only=[1])
    streams.open(dialect="stream", port=product.port, accounts=tokens[speakers // 2 : speakers], only=[1])
    phone = stack.enter_context(Generator(module="tests.bench.phoneload"))
    phone.do("open", jid=server.jid("admin"), password=PASSWORD, desk=server.jid("desk"), port=server.port)
    slowly = load.do("paced", seconds=seconds, per_second=_TO_ADMIN_PER_SECOND, senders=speakers)
    on_phone = phone.do("watch", seconds=_LATE_SECONDS)
    told = {
        **_between(slowly["said"], on_phone["seen"], "said_phone"),
        **_between(slowly["accepted"], on_phone["seen"], "accepted_phone"),
    }
    # Whoever speaks does so in turn: so this is who they are on the phone, in the order of their tokens.
    aliases = [on_phone["aliases"][str(number)] for number, _ in slowly["said"][:speakers]]
    told |= _answered(load, streams, phone, aliases, seconds)
    streams.tell(json.dumps({"job": "watch", "seconds": seconds + _LATE_SECONDS}))
    quickly = load.do("paced", seconds=seconds, per_second=_VISITORS_PER_SECOND, senders=speakers)
    on_streams = json.loads(streams.line())
    if lost := slowly["lost"] + quickly["lost"] + on_streams["lost"]:
        raise RuntimeError(f"{lost} connections were lost")
    seen = quickly["seen"] + on_streams["seen"]
    return told | {
        **_between(quickly["said"], seen, "said_seen"),
        **_between(_of_streams(quickly["said"], speakers), on_streams["seen"], "said_seen_stream"),
        **_between(quickly["said"], quickly["accepted"], "said_accepted"),
        **_between(quickly["accepted"], seen, "accepted_seen"),
        "generator_busy": quickly["busy"],
        "load_core_busy": quickly["core_busy"],
    }


def _answered(load: Generator, streams: Generator, phone: Generator, aliases: list[str], seconds: float) -> Figures:
    """The admin writes to each in turn. Everybody has a socket, or two; the second half have a stream besides."""
    for generator in (load, streams):
        generator.tell(json.dumps({"job": "watch", "seconds": seconds + _LATE_SECONDS}))
    said = phone.do(
        "answer",
        aliases=aliases,
        per_second=_TO_ADMIN_PER_SECOND,
        seconds=seconds,
        first_number=_FIRST_OF_ADMIN,
    )["said"]
    on_sockets, on_streams = (json.loads(generator.line())["seen"] for generator in (load, streams))
    return {
        **_between(said, on_sockets, "admin_socket"),
        **_between(_of_streams(said, len(aliases)), on_streams, "admin_stream"),
    }


def _of_streams(said: list[Any], speakers: int) -> list[Any]:
    """Of what was said by or to each in turn: what those with a stream are to see on it."""
    return [each for turn, each in enumerate(said) if turn % speakers >= speakers // 2]


def _between(begun: Any, ended: Any, name: str) -> Figures:
    """Milliseconds from each number's first instant to its second. RuntimeError: something did not arrive."""
    began: Mapping[int, float] = dict(map(tuple, begun))
    waits = [1000 * max(0.0, at - began[number]) for number, at in ended if number in began]
    arrived = {number for number, _ in ended}
    if missing := sorted(number for number in began if number not in arrived):
        slowest = f"the slowest of the others took {max(waits):.0f} ms" if waits else "nor did any other"
        last = max(at for _, at in ended) - max(began.values()) if ended else float("nan")
        raise RuntimeError(
            f"{name}: {len(missing)} of {len(began)} did not arrive, the first of them number {missing[0]}; {slowest},"
            f" and the last one came {last:.1f} s after the last was said"
        )
    return spread(waits, name, "ms")


if __name__ == "__main__":
    alone(measure)
