"""All measures, one after the other: a table, a JSON file, and which goals were met.

    packaging/bench [--quick] [--only NAME …] [--json FILE]

Nothing else should run on the machine meanwhile. A measure that fails is told at the end, and so is its exit status.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.bench import (
    firstpage,
    history,
    idle,
    latency,
    loginrush,
    overonion,
    rush,
    slowdisk,
    start,
    storm,
    throughput,
)
from tests.bench.figures import FULL, QUICK, Figures, Scale
from tests.bench.goals import GOALS

MEASURES: Final[dict[str, Callable[[Scale], Figures]]] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "rush": rush.measure,
    "idle": idle.measure,
    "storm": storm.measure,
    "loginrush": loginrush.measure,
    "history": history.measure,
    "slowdisk": slowdisk.measure,
    "start": start.measure,
    "firstpage": firstpage.measure,
    "overonion": overonion.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="packaging/bench", description="What it costs, beside others.")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that everything works")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES), metavar="NAME")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the figures go")
    asked = parser.parse_args()
    figures: Figures = {}
    failed = []
    for name in asked.only:
        began = time.monotonic()
        print(f"== {name}", flush=True)
        try:
            found = MEASURES[name](QUICK if asked.quick else FULL)
        except Exception:  # noqa: BLE001 - the other measures go on, and the failure is told
            traceback.print_exc()
            failed.append(name)
            continue
        for figure, value in found.items():
            print(f"{figure:60} {value:14.4g}")
        print(f"== {name} took {time.monotonic() - began:.0f} s", flush=True)
        figures |= found
    told = {"machine": _machine(), "quick": asked.quick, "figures": figures, "failed": failed}
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(told, indent=2) + "\n")
    print("== goals")
    print("\n".join(goal.line(figures) for goal in GOALS))
    for name in failed:
        print(f"packaging/bench: failed: {name}", file=sys.stderr)
    return 1 if failed else 0


def _machine() -> dict[str, object]:
    return {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}


if __name__ == "__main__":
    sys.exit(main())
