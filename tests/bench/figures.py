"""What all measures share: how large their numbers are, and how many values become one.

A measure is a module with `measure(scale) -> Figures`, one flat table whose names end in their units, and can be run by
itself: `python -m tests.bench.idle --quick`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.bench.processes import LOAD_CORE
from tests.bench.surroundings import prepare

Figures = dict[str, float]
_BUSY_MAX: Final = 0.9  # part of the load's core


@dataclass(frozen=True, slots=True)
class Scale:
    """The numbers of one run."""

    sockets: int = 10_000
    streams: int = 5_000
    idle_seconds: float = 60.0
    storms: int = 3
    rest_seconds: float = 5.0  # for what is at rest, before it is compared with what is not
    log_ins: tuple[int, ...] = (40, 100)
    stored: tuple[int, ...] = (10_200, 1_000_000, 5_000_000)  # the first: 51 conversations that are read
    page_reads: int = 200
    starts: int = 5
    pairs: int = 30
    closed_seconds: float = 10.0
    writers: int = 1_000
    visitors: int = 100
    messages: int = 10
    rounds: int = 3
    round_seconds: float = 4.0
    live: tuple[int, ...] = (100, 1_000, 10_000)
    latency_seconds: float = 20.0


FULL: Final = Scale()
QUICK: Final = Scale(
    sockets=500,
    streams=300,
    idle_seconds=5.0,
    storms=1,
    rest_seconds=2.0,
    log_ins=(8,),
    stored=(10_200, 100_000),
    page_reads=50,
    starts=2,
    pairs=5,
    closed_seconds=3.0,
    writers=200,
    visitors=20,
    rounds=1,
    round_seconds=1.0,
    live=(100,),
    latency_seconds=3.0,
)


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of them do not exceed; the greatest for 1.0. ValueError: there are none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there is nothing to take a percentile of")
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(values: Iterable[float], name: str, unit: str) -> Figures:
    """p50, p95, p99 and max."""
    ordered = sorted(values)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {f"{name}_{label}_{unit}": percentile(ordered, share) for label, share in shares.items()}


def doubtful(figures: Figures) -> list[str]:
    """Where the load's side may have been the bottleneck: what was measured there says too little of the server."""
    return [name for name, value in figures.items() if name.endswith("_busy") and value > _BUSY_MAX]


@contextlib.contextmanager
def beside_the_server() -> Iterator[None]:
    """This process keeps off the server's core meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {LOAD_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def alone(measure: Callable[[Scale], Figures]) -> None:
    """One measure by itself, from the command line."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    scale = QUICK if parser.parse_args().quick else FULL
    prepare()
    figures = measure(scale)
    print(json.dumps(figures, indent=2))
    for name in doubtful(figures):
        print(f"doubtful: {name} is {figures[name]:.2f}", file=sys.stderr)
