"""Ten thousand visitors whose connections all drop at one moment, and who are all back at the next.

    python -m tests.bench.storm [--quick]

The product with conversations that have no message yet, and in turn with it the bare echo, which knows nobody, so that
each round has its own ratio; then the product with ten messages in each conversation, so that every client says after
which one it goes on. While they come, somebody else asks for a small page 20 times a second.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.bench import filling
from tests.bench.figures import Figures, Scale, alone, percentile
from tests.bench.lag import Probe
from tests.bench.peers.servers import Echo
from tests.bench.processes import Generator
from tests.bench.product import Product

_SAID: Final = 10
_ASKED_PER_SECOND: Final = 20


class _Crowd:
    """Everybody's sockets to one server, and what each of their storms was like. The first is no storm: they come."""

    def __init__(self, stack: contextlib.ExitStack, port: int, path: str, **job: Any) -> None:
        self.seconds: list[float] = []
        self.lags: list[list[float]] = []
        self.failed = 0
        self._job = {"host": "127.0.0.1", "port": port, "at_once": len(job["accounts"]), **job}
        self._generator = stack.enter_context(Generator())
        self._probe = stack.enter_context(Probe(port, "http", path, per_second=_ASKED_PER_SECOND))

    def storm(self) -> None:
        self._generator.do("close", abrupt=True, pause=0)
        self._probe.take()
        opened = self._generator.do("open", **self._job)
        self.lags.append(self._probe.take())
        self.seconds.append(opened["seconds"])
        self.failed += len(opened["failed"])

    def figures(self) -> Figures:
        later = [lag for each in self.lags[1:] for lag in each]
        return {
            "first_connects_seconds": self.seconds[0],
            "first_connects_lag_p99_ms": percentile(self.lags[0], 0.99),
            "seconds": statistics.median(self.seconds[1:]),
            "slowest_seconds": max(self.seconds[1:]),
            "lag_p50_ms": percentile(later, 0.5),
            "lag_p99_ms": percentile(later, 0.99),
            "failed": self.failed,
        }


def measure(scale: Scale) -> Figures:
    with tempfile.TemporaryDirectory() as directory, Product(Path(directory) / "data") as product:
        tokens = product.accounts(scale.sockets)
        with contextlib.ExitStack() as stack:
            echo = stack.enter_context(Echo(most=1))
            ours = _Crowd(stack, product.port, "/check", dialect="desk", accounts=tokens, after=0)
            theirs = _Crowd(stack, echo.port, "/hello", dialect="echo", accounts=[""] * scale.sockets)
            for _ in range(1 + scale.storms):
                ours.storm()
                theirs.storm()
        product.stop()
        filling.converse(product.data, tokens, each=_SAID)
        product.restart()
        with contextlib.ExitStack() as stack:
            later = _Crowd(stack, product.port, "/check", dialect="desk", accounts=tokens, after=_SAID)
            for _ in range(1 + scale.storms):
                later.storm()
    ratios = [one / other for one, other in zip(ours.seconds[1:], theirs.seconds[1:], strict=True)]
    return {
        "storm_sockets": scale.sockets,
        **_named("storm", ours.figures()),
        **_named("storm_echo", theirs.figures()),
        **_named("storm_with_messages", later.figures()),
        "storm_to_echo_ratio": statistics.median(ratios),
    }


def _named(name: str, figures: Figures) -> Figures:
    return {f"{name}_{key}": value for key, value in figures.items()}


if __name__ == "__main__":
    alone(measure)
