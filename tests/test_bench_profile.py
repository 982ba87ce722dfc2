"""How py-spy's samples become the ten largest costs."""

import pytest

from tests.bench.profile import costs

START = "run (asyncio/runners.py:190);run (veilsupport/app.py:9)"
LINES = [
    f"{START};Guard.call (veilsupport/web/guard.py:1);say (veilsupport/desk/visitors.py:5);seal (nacl/box.py:7) 6",
    f"{START};Guard.call (veilsupport/web/guard.py:2);say (veilsupport/desk/visitors.py:8);seal (nacl/box.py:9) 2",
    f"{START};Guard.call (veilsupport/web/guard.py:2) 1",
    f"{START};Condition.wait (threading.py:320) 1",
]


def test_the_lines_of_one_function_count_together() -> None:
    assert costs(LINES, 2.0)["own"][0] == [0.8, "seal (nacl/box.py)"]


def test_a_function_of_ours_counts_with_what_it_calls_and_what_stands_around_is_left_out() -> None:
    shares = [[0.9, "Guard.call (veilsupport/web/guard.py)"], [0.8, "say (veilsupport/desk/visitors.py)"]]
    assert costs(LINES, 2.0)["ours"] == shares


def test_alone_it_counts_without_what_others_of_ours_do_for_it() -> None:
    shares = [[0.8, "say (veilsupport/desk/visitors.py)"], [0.1, "Guard.call (veilsupport/web/guard.py)"]]
    assert costs(LINES, 2.0)["ours_alone"] == shares


def test_a_function_that_calls_itself_counts_once() -> None:
    again = "f (veilsupport/a.py:1);f (veilsupport/a.py:2);g (b.py:1) 4"
    assert costs([again], 1.0)["ours"] == [[1.0, "f (veilsupport/a.py)"]]


def test_what_waits_is_left_out_of_the_shares_and_of_the_count() -> None:
    look = costs(LINES, 2.0, waits=["Condition.wait (threading.py)"])
    assert look["samples_per_second"] == 4.5
    assert look["own"][0] == [round(8 / 9, 3), "seal (nacl/box.py)"]


def test_only_the_ten_largest_are_told() -> None:
    assert len(costs([f"f{number} (a.py:1) 1" for number in range(20)], 1.0)["own"]) == 10


def test_no_sample_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        costs([], 1.0)
