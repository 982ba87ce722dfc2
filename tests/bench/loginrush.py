"""Many who sign in with e-mail and password at one moment, and what the others notice of it.

    python -m tests.bench.loginrush [--quick]

The accounts are registered before. Meanwhile somebody asks for a small page 50 times a second, and a WebSocket says
`ping` 100 times a second. First with the server on one core, as in all measures here, so that the slow hashes and the
loop share it; then on both, as it runs when nobody pins it.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.bench.asking import Answer, Line
from tests.bench.figures import Figures, Scale, alone, beside_the_server, percentile
from tests.bench.lag import Probe
from tests.bench.processes import LOAD_CORE, SERVER_CORE, Usage
from tests.bench.product import Product

_SAMPLE_SECONDS: Final = 0.02
_LOGIN: Final = "/api/v1/auth/login"
_REGISTER: Final = "/api/v1/auth/register"


class _Memory(threading.Thread):
    """The most that a process has had while this ran."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.before = self.most = Usage.of(pid).memory_bytes
        self._pid = pid
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            self.most = max(self.most, Usage.of(self._pid).memory_bytes)

    def end(self) -> float:
        """MiB more than at the beginning."""
        self._over.set()
        self.join()
        return (self.most - self.before) / 1024 / 1024


def measure(scale: Scale) -> Figures:
    told: Figures = {}
    with beside_the_server(), tempfile.TemporaryDirectory() as directory:
        for name, cores in (("one_core", {SERVER_CORE}), ("two_cores", {SERVER_CORE, LOAD_CORE})):
            # A new one each time: what the first hash has taken is not given back.
            for many in scale.log_ins:
                with Product(Path(directory) / f"{name}{many}") as product:
                    os.sched_setaffinity(product.pid, cores)  # threads come later, and inherit it
                    found = _rush(product, many, scale.rest_seconds)
                told |= {f"log_ins_{many}_{name}_{key}": value for key, value in found.items()}
    return told


def _rush(product: Product, many: int, rest_seconds: float) -> Figures:
    people = [{"email": f"person{number}@mail.example", "password": "long enough"} for number in range(many)]
    with Line(product.port) as line:
        for person in people:
            line.must("POST", _REGISTER, person)
    (token,) = product.accounts(1)
    with (
        Probe(product.port, "http", "/check", per_second=50) as page,
        Probe(product.port, "ping", token, per_second=100) as ping,
    ):
        time.sleep(rest_seconds)
        rests = {"page": page.take(), "ping": ping.take()}
        memory = _Memory(product.pid)
        began = time.monotonic()
        answers = _all_at_once(product.port, people)
        seconds = time.monotonic() - began
        rushes = {"page": page.take(), "ping": ping.take()}
        extra = memory.end()
    if refused := [answer.body for answer in answers if answer.status != 200]:
        raise RuntimeError(f"{len(refused)} of {many} were refused: {refused[0]!r}")
    rest, rush = ({name: percentile(each, 0.99) for name, each in lags.items()} for lags in (rests, rushes))
    return {
        "seconds": seconds,
        "each_p50_seconds": percentile([answer.seconds for answer in answers], 0.5),
        "each_p99_seconds": percentile([answer.seconds for answer in answers], 0.99),
        "extra_memory_mib": extra,
        **{f"{name}_lag_p99_ms": rush[name] for name in rush},
        **{f"{name}_lag_max_ms": max(rushes[name]) for name in rushes},
        **{f"{name}_at_rest_p99_ms": rest[name] for name in rest},
        **{f"{name}_lag_above_rest_ms": rush[name] - rest[name] for name in rest},
    }


def _all_at_once(port: int, people: list[dict[str, str]]) -> list[Answer]:
    together = threading.Barrier(len(people))

    def log_in(person: dict[str, str]) -> Answer:
        with Line(port) as line:
            together.wait()
            return line.ask("POST", _LOGIN, person)

    with ThreadPoolExecutor(len(people)) as pool:
        return list(pool.map(log_in, people))


if __name__ == "__main__":
    alone(measure)
