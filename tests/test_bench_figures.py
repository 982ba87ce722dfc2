"""How the benchmark makes one figure of many values, and when it says that a goal was met."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.figures import FULL, QUICK, doubtful, percentile, spread
from tests.bench.goals import GOALS, Goal

values = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300)


def test_a_percentile_is_the_value_that_so_many_do_not_exceed() -> None:
    hundred = list(range(100, 0, -1))  # in any order
    assert (percentile(hundred, 0.0), percentile(hundred, 1.0)) == (1, 100)
    assert percentile(hundred, 0.5) == 51
    assert percentile(hundred, 0.99) == 100  # of a hundred one is beyond it at most, and that may be the worst
    assert percentile(range(1, 1001), 0.99) == 991
    assert percentile(iter([7.0]), 0.5) == 7.0


@given(values, st.floats(0, 1))
def test_a_percentile_never_flatters(found: list[float], share: float) -> None:
    value = percentile(found, share)
    assert value in found
    assert sum(each <= value for each in found) >= share * len(found)
    assert sum(each < value for each in found) <= share * len(found)


def test_of_nothing_there_is_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="nothing"):
        spread([], "said_seen", "ms")


def test_a_spread_names_each_figure_with_its_unit() -> None:
    found = spread(iter(range(1, 10_001)), "seen", "ms")
    assert found == {"seen_p50_ms": 5001, "seen_p95_ms": 9501, "seen_p99_ms": 9901, "seen_max_ms": 10_000}


@given(values)
def test_a_spread_only_grows(found: list[float]) -> None:
    shares = list(spread(found, "x", "ms").values())
    assert shares == sorted(shares)
    assert shares[-1] == max(found)


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        (Goal("w", "f", at_least=10), 10.0, "met"),
        (Goal("w", "f", at_least=10), 9.999, "MISSED"),
        (Goal("w", "f", at_most=15), 15.0, "met"),
        (Goal("w", "f", at_most=15), 15.001, "MISSED"),
        (Goal("w", "f", at_most=0), 0.0, "met"),
        (Goal("w", "f", at_most=0), 1.0, "MISSED"),
        (Goal("w", "f", at_least=0.8), float("nan"), "MISSED"),
        (Goal("w", "f", at_most=15), float("nan"), "MISSED"),
        (Goal("w", "f", at_least=10), None, "not measured"),
    ],
)
def test_a_goal_says_whether_it_was_met_and_what_was_found(goal: Goal, value: float | None, verdict: str) -> None:
    figures = {"other": 1e9} if value is None else {"f": value}
    assert goal.is_met(figures) is {"met": True, "MISSED": False, "not measured": None}[verdict]
    line = goal.line(figures)
    assert line.startswith(f"{verdict} ")
    assert ("–" if value is None else f"{value:.4g}") in line
    assert line.endswith("w")


def test_a_figure_is_doubtful_where_the_load_was_at_its_end() -> None:
    assert doubtful({"generator_busy": 0.99, "other_generator_busy": 0.5, "generator_busy_seconds": 9.0}) == [
        "generator_busy"
    ]


def test_every_goal_has_one_bound_and_a_figure_of_its_own() -> None:
    assert all((goal.at_least is None) != (goal.at_most is None) for goal in GOALS)
    assert len({goal.figure for goal in GOALS}) == len(GOALS)


def test_the_quick_run_is_the_same_in_small() -> None:
    for name in ("sockets", "streams", "idle_seconds", "storms", "starts", "writers", "rounds", "latency_seconds"):
        assert getattr(QUICK, name) < getattr(FULL, name)
    for name in ("stored", "log_ins", "live"):
        assert max(getattr(QUICK, name)) < max(getattr(FULL, name))
