"""A refusal is asked about again after a while, once for each time that it was given."""

from veilsupport.xmpp.refusals import ASK_AGAIN_SECONDS, Refusals


def test_what_was_refused_is_due_after_a_while_and_once() -> None:
    now = 1000.0
    refusals = Refusals(clock=lambda: now)
    refusals.note(b"one")
    refusals.note(None)
    assert refusals.due() == []
    now += ASK_AGAIN_SECONDS
    assert set(refusals.due()) == {b"one", None}
    assert refusals.due() == []


def test_rooms_that_are_had_are_not_asked_for_again() -> None:
    now = 1000.0
    refusals = Refusals(clock=lambda: now)
    refusals.note(None)
    refusals.clear()
    now += ASK_AGAIN_SECONDS
    assert refusals.due() == []


def test_clock_that_is_set_back_by_years_does_not_hold_up_what_waits_for_minutes() -> None:
    now = 1_800_000_000.0
    refusals = Refusals(clock=lambda: now)
    refusals.note(b"one")
    assert refusals.due() == []
    now -= 3 * 365 * 86_400.0
    assert refusals.due() == [b"one"]
