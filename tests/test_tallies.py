"""How much is in a request is counted once, and then kept up to date."""

from __future__ import annotations

from veilsupport.desk.requests import TALLIES_MAX, Tallies, Tally


def test_one_more_is_added_to_what_is_known_and_to_nothing_else() -> None:
    tallies = Tallies()
    tallies.add(b"stranger", "words")
    assert tallies.known(b"stranger") is None
    tallies.keep(b"heron", Tally(1, 5))
    tallies.add(b"heron", "four")
    assert tallies.known(b"heron") == Tally(2, 9)


def test_what_was_forgotten_is_counted_anew() -> None:
    tallies = Tallies()
    tallies.keep(b"heron", Tally(1, 5))
    tallies.forget(b"heron")
    assert tallies.known(b"heron") is None


def test_of_too_many_the_one_that_was_silent_longest_goes() -> None:
    tallies = Tallies()
    for number in range(TALLIES_MAX):
        tallies.keep(number.to_bytes(4, "big"), Tally(1, 1))
    tallies.add((0).to_bytes(4, "big"), "again")
    tallies.keep(b"one more", Tally(1, 1))
    assert tallies.known((0).to_bytes(4, "big")) == Tally(2, 6)
    assert tallies.known((1).to_bytes(4, "big")) is None
