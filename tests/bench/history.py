"""A page of fifty messages, out of a database with few of them and out of one with millions.

    python -m tests.bench.history [--quick]

Warm: one conversation's newest and older pages, over the API and as a page. Cold: the first look into each of fifty
conversations, with the file put out of the kernel's cache before each. The file grows from one size to the next.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.bench import filling
from tests.bench.asking import Answer, Line
from tests.bench.figures import Figures, Scale, alone, beside_the_server, percentile
from tests.bench.lag import Probe
from tests.bench.product import Product
from veilsupport.directory import DATABASE

_COLD: Final = 50
_NEWEST: Final = "/api/v1/chat/history?limit=50"
_MIDDLE: Final = f"/api/v1/chat/history?limit=50&before={filling.EACH // 2}"
_PAGE: Final = f"/chat/older?before={filling.EACH // 2}"


def measure(scale: Scale) -> Figures:
    told: Figures = {}
    with beside_the_server(), tempfile.TemporaryDirectory() as directory, Product(Path(directory) / "data") as product:
        tokens = product.accounts(1 + _COLD)
        product.stop()
        filling.converse(product.data, tokens)
        for stored in scale.stored:
            filling.pad(product.data, stored)
            began = time.monotonic()
            product.restart()
            found = {"start_seconds": product.ready_at - began, **_pages(product, tokens, scale.page_reads)}
            product.stop()
            found["file_mib"] = (product.data / DATABASE).stat().st_size / 1024 / 1024
            told |= {f"history_of_{stored}_{name}": value for name, value in found.items()}
    return told | _ratios(told, min(scale.stored), max(scale.stored))


def _pages(product: Product, tokens: list[str], reads: int) -> Figures:
    told: Figures = {}
    for name, path in (("newest", _NEWEST), ("middle", _MIDDLE), ("page", _PAGE)):
        with Line(product.port, tokens[0]) as line:
            for _ in range(5):
                _fifty(line.must("GET", path))
            taken = [line.must("GET", path).seconds * 1000 for _ in range(reads)]
        told |= {f"{name}_p50_ms": percentile(taken, 0.5), f"{name}_p99_ms": percentile(taken, 0.99)}
    with Probe(product.port, "http", "/check", per_second=50) as probe:
        cold = [_cold(product, token) for token in tokens[1:]]
        lags = probe.take()
    told |= {"cold_p50_ms": percentile(cold, 0.5), "cold_p99_ms": percentile(cold, 0.99)}
    return told | {"cold_lag_p99_ms": percentile(lags, 0.99), "cold_mean_ms": statistics.mean(cold)}


def _cold(product: Product, token: str) -> float:
    """Milliseconds; the connection stands before."""
    with Line(product.port, token) as line:
        line.must("GET", "/check")
        _forget(product.data / DATABASE)
        answer = line.must("GET", _MIDDLE)
    _fifty(answer)
    return answer.seconds * 1000


def _fifty(answer: Answer) -> None:
    found = answer.body.count(b"Message ")
    if found != 50:
        raise RuntimeError(f"a page of {found} messages")


def _forget(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)  # only what the disk has can be let go
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def _ratios(told: Figures, few: int, many: int) -> Figures:
    def ratio(name: str) -> float:
        return told[f"history_of_{many}_{name}"] / told[f"history_of_{few}_{name}"]

    names = ("newest_p50_ms", "middle_p50_ms", "page_p50_ms", "cold_p50_ms")
    return {f"history_{name.removesuffix('_ms')}_ratio": ratio(name) for name in names}


if __name__ == "__main__":
    alone(measure)
