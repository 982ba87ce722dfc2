"""Wrong passwords and codes: whoever guesses waits longer and longer, and nobody can lock somebody else out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from veilsupport.guesses import CIRCUIT_FREE, FORGOTTEN_SECONDS, PAIR_FREE, PRESSED_FROM, Guesses

MINE, OTHER, JO, ANN = "circ-1", "circ-2", b"jo", b"ann"


def wrong(
    guesses: Guesses, times: int, circuit: str | None = MINE, account: bytes | None = JO, *, at: float = 0
) -> None:
    for _ in range(times):
        guesses.failed(circuit, account, now=at)


def test_a_few_mistakes_cost_nothing_and_then_each_costs_twice_as_long() -> None:
    guesses, waits = Guesses(), []
    for _ in range(PAIR_FREE + 12):
        waits.append(guesses.wait(MINE, JO, now=0))
        wrong(guesses, 1)
    assert waits[:PAIR_FREE] == [0.0] * PAIR_FREE
    assert waits[PAIR_FREE : PAIR_FREE + 5] == [5, 10, 20, 40, 80]
    assert max(waits[: PAIR_FREE + PRESSED_FROM - 3]) <= 900


def test_what_is_told_is_the_whole_wait() -> None:
    guesses = Guesses()
    wrong(guesses, 6)
    wait = guesses.wait(MINE, JO, now=0)
    assert guesses.wait(MINE, JO, now=wait - 1) > 0
    assert guesses.wait(MINE, JO, now=wait) == 0


def test_many_guesses_do_not_lock_out_a_circuit_that_was_not_wrong() -> None:
    guesses = Guesses()
    for number in range(500):
        wrong(guesses, 4, f"circ-{number + 10}")
    assert guesses.is_pressed(JO, now=0)
    assert guesses.wait(MINE, JO, now=0) == 0
    wrong(guesses, PAIR_FREE - 1)
    assert guesses.wait(MINE, JO, now=0) == 0  # nor one that was mistyped twice
    wrong(guesses, 1)
    assert guesses.wait(MINE, JO, now=0) == 3600


def test_an_account_that_does_not_exist_looks_like_one_that_does() -> None:
    """It cannot be otherwise: nothing here knows which there are."""
    guesses = Guesses()
    wrong(guesses, PRESSED_FROM)
    wrong(guesses, PRESSED_FROM, OTHER, ANN)
    assert guesses.wait(MINE, JO, now=7) == guesses.wait(OTHER, ANN, now=7) > 0


def test_a_circuit_that_tries_one_account_after_the_other_waits_too() -> None:
    guesses = Guesses()
    for number in range(CIRCUIT_FREE):
        wrong(guesses, 1, account=bytes([number]))
    assert guesses.wait(MINE, ANN, now=0) == 20
    assert guesses.wait(MINE, None, now=0) == 20  # with codes as well
    assert guesses.wait(OTHER, ANN, now=0) == 0


def test_return_codes_are_no_business_of_an_accounts_lock() -> None:
    guesses = Guesses()
    wrong(guesses, 1000, OTHER)
    assert guesses.wait(MINE, None, now=0) == 0


def test_being_right_forgives_a_circuits_own_mistakes_but_not_what_others_guess() -> None:
    guesses = Guesses()
    wrong(guesses, PRESSED_FROM, OTHER)
    wrong(guesses, PAIR_FREE)
    guesses.succeeded(MINE, JO)
    assert guesses.wait(MINE, JO, now=0) == 0
    assert guesses.is_pressed(JO, now=0)
    assert guesses.wait(OTHER, JO, now=0) > 0


def test_it_is_forgotten_after_an_hour_without_another() -> None:
    guesses = Guesses()
    wrong(guesses, 50)
    assert guesses.has_failed(MINE, JO, now=FORGOTTEN_SECONDS)
    late = FORGOTTEN_SECONDS + 1
    assert not guesses.has_failed(MINE, JO, now=late)
    assert not guesses.is_pressed(JO, now=late)
    assert guesses.wait(MINE, JO, now=late) == 0


def test_a_clock_that_is_set_back_does_not_lengthen_a_wait() -> None:
    guesses = Guesses()
    wrong(guesses, PAIR_FREE, at=1e9)
    assert guesses.wait(MINE, JO, now=0) == 5
    assert guesses.wait(MINE, JO, now=3) == 2
    assert guesses.wait(MINE, JO, now=5) == 0
    assert not guesses.has_failed(MINE, JO, now=FORGOTTEN_SECONDS + 1)


def test_on_loopback_each_account_has_its_own_count() -> None:
    guesses = Guesses()
    wrong(guesses, 20, None)
    assert guesses.wait(None, JO, now=0) > 0
    assert guesses.wait(None, ANN, now=0) == 0
    assert guesses.wait(None, None, now=0) == 0


def test_a_million_guesses_from_everywhere_fill_bounded_memory() -> None:
    guesses = Guesses()
    for number in range(100_000):
        guesses.failed(f"circ-{number}", number.to_bytes(4, "big"), now=number)
    assert len(guesses) <= 3 * 8192


@given(st.integers(0, 2000))
def test_no_wait_is_longer_than_an_hour(times: int) -> None:
    guesses = Guesses()
    wrong(guesses, times)
    assert 0 <= guesses.wait(MINE, JO, now=0) <= 3600
