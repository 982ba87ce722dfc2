"""When the clock is believed: by itself, after steps there and back, and after a long time off."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from veilsupport.steadiness import DOUBT_SECONDS, LONG_SECONDS, STEP_SECONDS, Marks, Steadiness

NOW, UP = 1_800_000_000.0, 500.0
YEARS = 3 * 365 * 86_400.0


def steady(marks: Marks = Marks(), *, now: float = NOW) -> Steadiness:  # noqa: B008 - frozen
    return Steadiness(marks, now=now, uptime=UP)


def test_clock_that_runs_on_is_believed_for_ever() -> None:
    clock = steady(Marks(NOW - 60))
    for hour in range(1, 1000):
        drifted = hour * 0.5  # what a time server puts right bit by bit
        assert clock.look(now=NOW + hour * 3600 + drifted, uptime=UP + hour * 3600) == 0.0
        assert clock.is_believed
        assert clock.marks == Marks(NOW + hour * 3600 + drifted)


def test_clock_that_jumps_is_doubted_for_a_day_and_then_believed() -> None:
    clock = steady()
    assert clock.look(now=NOW + YEARS + 60, uptime=UP + 60) == YEARS
    for seconds in (60, 3600, DOUBT_SECONDS - 1):
        clock.look(now=NOW + YEARS + 60 + seconds, uptime=UP + 60 + seconds)
        assert not clock.is_believed
    clock.look(now=NOW + YEARS + 60 + DOUBT_SECONDS, uptime=UP + 60 + DOUBT_SECONDS)
    assert clock.is_believed


def test_clock_that_is_put_back_is_believed_at_once() -> None:
    clock = steady()
    clock.look(now=NOW + YEARS, uptime=UP + 60)
    assert not clock.is_believed
    clock.look(now=NOW + 120, uptime=UP + 120)
    assert clock.is_believed


def test_step_back_is_doubted_and_then_believed_too() -> None:
    clock = steady()
    assert clock.look(now=NOW - YEARS + 60, uptime=UP + 60) == -YEARS
    assert not clock.is_believed
    clock.look(now=NOW - YEARS + 60 + DOUBT_SECONDS, uptime=UP + 60 + DOUBT_SECONDS)
    assert clock.marks == Marks(NOW - YEARS + 60 + DOUBT_SECONDS)


def test_start_after_a_long_time_off_is_doubted_until_a_time_server_agrees_or_a_day_has_passed() -> None:
    assert steady(Marks(NOW - LONG_SECONDS)).is_believed
    wrong = steady(Marks(NOW), now=NOW + YEARS)
    assert [wrong.is_believed, wrong.look(now=NOW + 30, uptime=UP + 30), wrong.is_believed] == [False, -YEARS, True]
    long_off = steady(Marks(NOW - YEARS))
    again = steady(long_off.marks, now=NOW + DOUBT_SECONDS / 2)  # a machine that is switched off every night
    assert (long_off.is_believed, again.is_believed) == (False, False)
    on_the_third_day = steady(again.marks, now=NOW + DOUBT_SECONDS)
    on_the_third_day.look(now=NOW + DOUBT_SECONDS + 60, uptime=UP + 60)
    assert on_the_third_day.is_believed


def test_machine_whose_clock_begins_in_the_past_is_believed_once_the_time_is_right() -> None:
    clock = steady(Marks(NOW), now=0.0)
    assert clock.is_believed  # nothing is old by such a clock
    clock.look(now=60.0, uptime=UP + 60)
    assert clock.marks == Marks(NOW)
    clock.look(now=NOW + 3600, uptime=UP + 120)
    assert clock.is_believed
    clock.look(now=NOW + 3600 + YEARS, uptime=UP + 180)
    assert not clock.is_believed


def test_marks_are_read_as_they_were_written_and_nothing_else_is() -> None:
    assert Marks.from_text(Marks(NOW, NOW + 5).to_text()) == Marks(NOW, NOW + 5)
    for text in ("", "1", "1 x", "1 2 3", "nan nan", "-1 2"):
        assert Marks.from_text(text) == Marks()


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_no_row_of_steps_is_believed_but_where_the_clock_is_back(steps: list[float]) -> None:
    clock, away = steady(), 0.0
    for number, step in enumerate(steps, 1):
        away += step
        told = clock.look(now=NOW + away + number, uptime=UP + number)
        if told and abs(away) > (len(steps) + 1) * STEP_SECONDS:  # small steps are never told, but add up
            assert not clock.is_believed
