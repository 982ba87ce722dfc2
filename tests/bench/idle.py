"""What those cost who only wait: memory of each, and the processor's time of all.

python -m tests.bench.idle [--quick]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

from tests.bench.figures import Figures, Scale, alone
from tests.bench.processes import Generator, Usage
from tests.bench.product import Product

_SETTLE_SECONDS: Final = 3.0


def measure(scale: Scale) -> Figures:
    sockets = _held("desk", scale.sockets, scale.idle_seconds)
    streams = _held("stream", scale.streams, scale.idle_seconds)
    return {
        **{f"idle_sockets_{name}": value for name, value in sockets.items()},
        **{f"idle_streams_{name}": value for name, value in streams.items()},
    }


def _held(dialect: str, many: int, seconds: float) -> Figures:
    with tempfile.TemporaryDirectory() as directory, Product(Path(directory) / "data") as product:
        tokens = product.accounts(many)
        with Generator() as generator:
            # What the first few bring along, templates for one, is none of the thousandth's.
            generator.open(dialect=dialect, port=product.port, accounts=tokens[:20])
            generator.do("close")
            time.sleep(_SETTLE_SECONDS)
            before = product.child.usage()
            generator.open(dialect=dialect, port=product.port, accounts=tokens)
            time.sleep(_SETTLE_SECONDS)
            begun = product.child.usage()
            watched = generator.do("watch", seconds=seconds)
            if watched["lost"]:
                raise RuntimeError(f"{watched['lost']} were lost while they waited")
            return _figures(many, before, begun, product.child.usage())


def _figures(many: int, before: Usage, begun: Usage, ended: Usage) -> Figures:
    return {
        "many": many,
        "each_kib": (begun.memory_bytes - before.memory_bytes) / 1024 / many,
        "each_at_the_end_kib": (ended.memory_bytes - before.memory_bytes) / 1024 / many,
        "server_mib": ended.memory_bytes / 1024 / 1024,
        "cpu_percent": 100 * ended.busy_since(begun),
    }


if __name__ == "__main__":
    alone(measure)
