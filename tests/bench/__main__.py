"""All measures, one after the other: a table, a JSON file, and which goals were met.

    packaging/bench [--quick] [--only NAME …] [--profile] [--json FILE]

Nothing else should run on the machine meanwhile: its load before is in the file, and where the load's core was busy for
nearly all of the time, the figure is told to be doubtful. A measure that fails is told at the end, and makes the exit
status 1, as does a goal that no measure has a figure for; a goal that is missed does not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench import (
    firstpage,
    history,
    idle,
    latency,
    loginrush,
    overonion,
    profile,
    rush,
    slowdisk,
    start,
    storm,
    throughput,
)
from tests.bench.figures import FULL, QUICK, Figures, Scale, doubtful
from tests.bench.goals import GOALS
from tests.bench.surroundings import prepare

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
    parser.add_argument("--profile", action="store_true", help="also where the time goes on each hot path")
    asked = parser.parse_args()
    prepare()
    machine = _machine()
    figures, failed = _measured(asked.only, QUICK if asked.quick else FULL)
    told: dict[str, Any] = {"machine": machine, "quick": asked.quick, "figures": figures, "failed": failed}
    told["doubtful"] = doubtful(figures)
    if asked.profile:
        try:
            told["profile"] = profile.profiles(profile.PATHS, seconds=profile.seconds_of(quick=asked.quick))
            print(profile.told(told["profile"]))
        except Exception:  # noqa: BLE001 - as with a measure
            traceback.print_exc()
            failed.append("profile")
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(told, indent=2) + "\n")
    print("== goals" + " (of small numbers, so nothing is met or missed)" * asked.quick)
    print("\n".join(goal.line(figures) for goal in GOALS), flush=True)
    if not asked.quick and set(asked.only) == set(MEASURES) and not failed:
        failed += [f"no figure {goal.figure}" for goal in GOALS if goal.is_met(figures) is None]
    for name in doubtful(figures):
        print(f"packaging/bench: doubtful: {name} is {figures[name]:.2f}", file=sys.stderr)
    for name in failed:
        print(f"packaging/bench: failed: {name}", file=sys.stderr)
    return 1 if failed else 0


def _measured(names: Sequence[str], scale: Scale) -> tuple[Figures, list[str]]:
    """The figures, and which measures failed."""
    figures: Figures = {}
    failed = []
    for name in names:
        began = time.monotonic()
        print(f"== {name}", flush=True)
        try:
            found = MEASURES[name](scale)
        except Exception:  # noqa: BLE001 - the other measures go on, and the failure is told
            traceback.print_exc()
            failed.append(name)
            continue
        for figure, value in found.items():
            print(f"{figure:60} {value:14.4g}")
        print(f"== {name} took {time.monotonic() - began:.0f} s", flush=True)
        figures |= found
    return figures, failed


def _machine() -> dict[str, object]:
    return {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}


if __name__ == "__main__":
    sys.exit(main())
