"""`veilsupport` as it ships, with room for as many as a benchmark brings: every limit is asked, with higher numbers.

    python -m tests.bench.roomy run --data DIRECTORY --no-tor --port PORT

One process of the benchmark stands for thousands of people, all of whom come at once; whoever measures the limits
themselves starts the program without this (tests/bench/flood.py). Nothing else differs: the same checks are made at the
same places, and everything is sealed and committed. On loopback there are no circuits, so their limits are not asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from veilsupport import breaker, cli, limits, observing
from veilsupport.web import pace, socket, windows, wire

_MANY: Final = 1_000_000


class _Roomy(limits.Limits):
    def __init__(self) -> None:
        # The rates stay: so buckets fill as slowly, and as many of them are remembered.
        super().__init__(tuple(replace(row, burst=row.burst + _MANY) for row in limits.TABLE))


def widen() -> None:
    observing.Limits = _Roomy  # type: ignore[assignment, attr-defined]
    for module, name in (
        (socket, "SOCKETS_MAX"),
        (socket, "WAITING_MAX"),
        (windows, "OPEN_MAX"),
        (wire, "FRAMES_PER_SECOND"),
        (wire, "FRAMES_BURST"),
    ):
        assert hasattr(module, name), name
        setattr(module, name, _MANY)
    for module, name in ((pace, "OUTBOX_MAX"), (pace, "OUTBOX_STARTS_MAX"), (breaker, "STARTS"), (breaker, "BACKLOG")):
        assert hasattr(module, name), name
        setattr(module, name, _MANY if name.startswith("OUTBOX") else (_MANY, _MANY))
    breaker.LAG_SECONDS = (1e9, 1e9)  # type: ignore[misc]


if __name__ == "__main__":
    widen()
    cli.main()
