"""How a run of the benchmark ends, and when its figures are doubted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.figures import doubtful
from tests.bench.processes import LOAD_CORE, SERVER_CORE, core_ticks

TOP = Path(__file__).resolve().parent.parent
RUN = """
from tests.bench.processes import Pinned
from tests.bench.surroundings import prepare
prepare()
with Pinned(["sleep", "600"], core=0) as child:
    try:
        print(child.pid, flush=True)
        child.process.wait()
    finally:
        print("tidied", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_ends_what_it_began(number: signal.Signals) -> None:
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        pytest.skip("one core")
    with subprocess.Popen([sys.executable, "-c", RUN], cwd=TOP, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        child = int(run.stdout.readline())
        run.send_signal(number)
        assert run.stdout.read() == "tidied\n"
        assert run.wait(30) == 128 + number
    assert not Path(f"/proc/{child}").exists()


def test_a_figure_is_doubtful_where_the_loads_core_was_busy_all_the_time() -> None:
    assert doubtful({"node_load_core_busy": 0.95, "node_per_second": 5.0, "echo_generator_busy": 0.9}) == [
        "node_load_core_busy"
    ]


def test_a_core_is_never_busier_than_all_of_its_time() -> None:
    busy, all_of_it = core_ticks(SERVER_CORE)
    assert 0 < busy < all_of_it
