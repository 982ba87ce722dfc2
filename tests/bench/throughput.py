"""How many sealed, durable messages a second: the product beside what people would use instead.

python -m tests.bench.throughput [--quick]

All servers run at once, and speak one after the other, round by round, so that each round has its own ratios. Each has
a thousand connections, and each sender says the next thing as soon as the one before is accepted. Of an XMPP server's
connections half are receivers: it acknowledges nothing to a sender, so a message counts when its receiver has it.

What "accepted" stands for: product, skeleton and node have it on the disk (synchronous=FULL), sealed twice. fastapi,
socketio, prosody_archive and ejabberd_archive have it on the disk, as anybody can read it. echo, prosody and ejabberd
have kept nothing. Nobody has handed it to an admin: the product has no admins' server here, and its outbox
grows; with one, the same core also carries the bridge (latency.py, profile.py).
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.bench.figures import Figures, Scale, alone, percentile
from tests.bench.peers.servers import Echo, FastApiChat, NodeChat, Skeleton, SocketIoChat
from tests.bench.peers.xmpp import EjabberdRelay, ProsodyRelay
from tests.bench.processes import Generator, Usage
from tests.bench.product import Product


class Server(Protocol):
    """What every one of them has."""

    port: int

    @property
    def pid(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Contender:
    """A server with its own generator, all connections open."""

    name: str
    server: Server
    generator: Generator

    def round(self, seconds: float) -> Figures:
        before = Usage.of(self.server.pid)
        outcome = self.generator.do("closed", seconds=seconds)
        after = Usage.of(self.server.pid)
        return _figures(outcome, after.cpu_seconds - before.cpu_seconds)


def measure(scale: Scale) -> Figures:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = list(_contenders(stack, directory, scale.writers))
        rounds: list[dict[str, Figures]] = []
        for number in range(scale.rounds + 1):
            told = {each.name: each.round(scale.round_seconds) for each in contenders}
            if number > 0:  # the first is for warming up
                rounds.append(told)
    return _medians(rounds) | _ratios(rounds)


def _contenders(stack: contextlib.ExitStack, directory: Path, many: int) -> Iterator[Contender]:
    """Each of them started; `many` senders for each."""
    product = stack.enter_context(Product(directory / "product"))
    yield _opened(stack, "product", product, "desk", product.accounts(many))
    for kind in (Skeleton, Echo, FastApiChat, SocketIoChat, NodeChat):
        server = stack.enter_context(kind(directory, most=many))
        yield _opened(stack, server.name, server, server.dialect, server.accounts(many))
    for name, relay in (
        ("prosody_archive", ProsodyRelay(archive="sqlite")),
        ("prosody", ProsodyRelay(archive=None)),
        ("ejabberd_archive", EjabberdRelay(archive="sqlite")),
        ("ejabberd", EjabberdRelay(archive=None)),
    ):
        running = stack.enter_context(relay)
        yield _opened(stack, name, running, running.dialect, running.accounts(many // 2), devices=2)


def _opened(
    stack: contextlib.ExitStack, name: str, server: Server, dialect: str, accounts: Sequence[Any], *, devices: int = 1
) -> Contender:
    generator = stack.enter_context(Generator())
    generator.open(dialect=dialect, port=server.port, accounts=accounts, devices=devices)
    return Contender(name, server, generator)


def _figures(outcome: Any, cpu_seconds: float) -> Figures:
    said, accepted = dict(map(tuple, outcome["said"])), outcome["accepted"]
    if len(accepted) != len(said) or outcome["lost"]:
        raise RuntimeError(
            f"{len(said) - len(accepted)} messages were not accepted, {outcome['lost']} connections lost"
        )
    waits = [1000 * (at - said[number]) for number, at in accepted]
    return {
        "per_second": len(accepted) / (max(at for _, at in accepted) - outcome["began"]),
        "cpu_us": cpu_seconds / len(accepted) * 1e6,
        "p50_ms": percentile(waits, 0.5),
        "p99_ms": percentile(waits, 0.99),
        "generator_busy": outcome["busy"],
        "load_core_busy": outcome["core_busy"],
    }


def _medians(rounds: list[dict[str, Figures]]) -> Figures:
    return {
        f"{name}_{figure}": statistics.median(each[name][figure] for each in rounds)
        for name, figures in rounds[0].items()
        for figure in figures
    }


def _ratios(rounds: list[dict[str, Figures]]) -> Figures:
    """The product's messages a second by each other's, within a round; the median of the rounds."""
    return {
        f"product_by_{name}": statistics.median(
            each["product"]["per_second"] / each[name]["per_second"] for each in rounds
        )
        for name in rounds[0]
        if name != "product"
    }


if __name__ == "__main__":
    alone(measure)
