"""Ten thousand visitors whose connections all drop at one moment, and who are all back at the next.

    python -m tests.bench.storm [--quick]

Three times each: the product with conversations that have no message yet; the same with ten messages in each, so that
every client says after which one it goes on; and the bare echo, which knows nobody, on the same machine at the
same time. While they come, somebody else asks for a small page 20 times a second.
"""

from __future__ import annotations

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


def measure(scale: Scale) -> Figures:
    told: Figures = {"storm_sockets": scale.sockets}
    with tempfile.TemporaryDirectory() as directory, Product(Path(directory) / "data") as product:
        tokens = product.accounts(scale.sockets)
        told |= _named("storm", _storms(scale, product.port, "/check", dialect="desk", accounts=tokens, after=0))
        product.stop()
        filling.converse(product.data, tokens, each=_SAID)
        product.restart()
        found = _storms(scale, product.port, "/check", dialect="desk", accounts=tokens, after=_SAID)
        told |= _named("storm_with_messages", found)
    with Echo(most=1) as echo:
        found = _storms(scale, echo.port, "/hello", dialect="echo", accounts=[""] * scale.sockets)
        told |= _named("storm_echo", found)
    told["storm_to_echo_ratio"] = told["storm_seconds"] / told["storm_echo_seconds"]
    return told


def _storms(scale: Scale, port: int, path: str, **job: Any) -> Figures:
    """The first connections of all, and then so many storms."""
    with Generator() as generator, Probe(port, "http", path, per_second=_ASKED_PER_SECOND) as probe:
        seconds, lags, failed = [], [], 0
        for _ in range(1 + scale.storms):
            generator.do("close", abrupt=True, pause=0)
            probe.take()
            opened = generator.do("open", host="127.0.0.1", port=port, at_once=scale.sockets, **job)
            lags.append(probe.take())
            seconds.append(opened["seconds"])
            failed += len(opened["failed"])
    later = [lag for each in lags[1:] for lag in each]
    return {
        "first_connects_seconds": seconds[0],
        "first_connects_lag_p99_ms": percentile(lags[0], 0.99),
        "seconds": statistics.median(seconds[1:]),
        "slowest_seconds": max(seconds[1:]),
        "lag_p50_ms": percentile(later, 0.5),
        "lag_p99_ms": percentile(later, 0.99),
        "failed": failed,
    }


def _named(name: str, figures: Figures) -> Figures:
    return {f"{name}_{key}": value for key, value in figures.items()}


if __name__ == "__main__":
    alone(measure)
