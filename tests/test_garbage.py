"""Python looks seldom for garbage, and never again at what stays."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from veilsupport import garbage


class Knot:
    """Refers to itself, so that nothing but a look for garbage takes it away."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def left_as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    gc.disable()  # only what is asked for here
    yield
    gc.unfreeze()
    gc.set_threshold(*before)
    gc.enable()


@pytest.mark.usefixtures("left_as_it_was")
def test_a_look_finds_what_is_old() -> None:
    knot = Knot()
    gc.collect()  # of the oldest from here on
    gone = weakref.ref(knot)
    del knot
    assert gone() is not None
    garbage.look()
    assert gone() is None


@pytest.mark.usefixtures("left_as_it_was")
def test_what_stays_is_set_aside_and_looks_become_rare() -> None:
    stays = Knot()
    frozen = gc.get_freeze_count()
    garbage.look_seldom()
    assert gc.get_threshold() == (50_000, 50, 100)
    assert gc.get_freeze_count() > frozen + 1000
    assert not any(each is stays for each in gc.get_objects())


@pytest.mark.usefixtures("left_as_it_was")
def test_what_is_garbage_already_is_not_kept_for_ever() -> None:
    gone = weakref.ref(Knot())
    assert gone() is not None
    garbage.look_seldom()
    assert gone() is None


@pytest.mark.usefixtures("left_as_it_was")
def test_what_becomes_garbage_later_is_still_found() -> None:
    garbage.look_seldom()
    later = weakref.ref(Knot())
    gc.collect()
    assert later() is None
