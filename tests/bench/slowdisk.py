"""The product on a disk that takes five milliseconds for each sync (slowdisk.c, put in front of the C library), and on
this machine's own right after it.

    python -m tests.bench.slowdisk [--quick]

A thousand sockets, and somebody whose `ping` the same loop answers 100 times a second. First a thousand messages a
second come, evenly: that is where the lag is looked at. Then each says its next message as soon as the one before is
accepted, which is the most that it can do; a ping then waits behind all whose turn has come with the same commit, on
any disk. RuntimeError: the disk was not slow.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.bench.asking import Line
from tests.bench.figures import Figures, Scale, alone, percentile, spread
from tests.bench.lag import Probe
from tests.bench.processes import Generator
from tests.bench.product import Product

_SYNC_MS: Final = 5.0
_SOURCE: Final = Path(__file__).with_suffix(".c")


def measure(scale: Scale) -> Figures:
    with tempfile.TemporaryDirectory() as directory:
        shim = Path(directory) / "slowdisk.so"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(shim), str(_SOURCE), "-ldl"], check=True)
        slow = _on(Path(directory) / "slow", {"LD_PRELOAD": str(shim)}, scale)
        usual = _on(Path(directory) / "usual", {}, scale)
    if slow["one_message_ms"] < usual["one_message_ms"] + _SYNC_MS / 2 or slow["one_message_ms"] < _SYNC_MS:
        raise RuntimeError(f"the disk is not slow: {slow['one_message_ms']:.1f} ms")
    return {
        **{f"slow_disk_{name}": value for name, value in slow.items()},
        **{f"usual_disk_{name}": value for name, value in usual.items()},
        "slow_to_usual_disk_ratio": slow["closed_messages_per_second"] / usual["closed_messages_per_second"],
    }


def _on(data: Path, env: Mapping[str, str], scale: Scale) -> Figures:
    with Product(data, env=env) as product, contextlib.ExitStack() as open_:
        tokens = product.accounts(scale.writers + 1)
        told: Figures = {"one_message_ms": _one_message(product.port, tokens[-1])}
        generator = open_.enter_context(Generator())
        probe = open_.enter_context(Probe(product.port, "ping", tokens[-1], per_second=100))
        generator.open(dialect="desk", port=product.port, accounts=tokens[:-1])
        probe.take()
        time.sleep(scale.rest_seconds)
        told |= {"lag_at_rest_p99_ms": percentile(probe.take(), 0.99)}
        for job, settings in (("paced", {"per_second": scale.writers}), ("closed", {})):
            before = product.child.usage()
            done = generator.do(job, seconds=scale.closed_seconds, bytes=200, **settings)
            found = _figures(done, probe.take())
            found["server_busy_percent"] = 100 * product.child.usage().busy_since(before)
            told |= {f"{job}_{name}": value for name, value in found.items()}
    return told


def _figures(done: dict[str, Any], lags: list[float]) -> Figures:
    said = dict(done["said"])
    waits = [(at - said[number]) * 1000 for number, at in done["accepted"]]
    if done["lost"] or len(waits) < len(said):
        raise RuntimeError(f"{len(said) - len(waits)} messages were not accepted, {done['lost']} connections lost")
    in_time = sum(at <= done["began"] + done["seconds"] for _, at in done["accepted"])
    return {
        "messages_per_second": in_time / done["seconds"],
        **spread(waits, "accepted", "ms"),
        **spread(lags, "lag", "ms"),
        "generator_busy": done["busy"],
        "load_core_busy": done["core_busy"],
    }


def _one_message(port: int, token: str) -> float:
    """Milliseconds, when nobody else says anything."""
    with Line(port, token) as line:
        taken = [line.must("POST", "/api/v1/chat/send", {"message": "alone"}).seconds * 1000 for _ in range(20)]
    return percentile(taken, 0.5)


if __name__ == "__main__":
    alone(measure)
