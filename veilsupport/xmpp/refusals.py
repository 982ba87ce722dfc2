"""What the server refused, and when it is asked again: a refusal that was not for good must not last for weeks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

ASK_AGAIN_SECONDS: Final = 300.0


def is_over(until: float, *, now: float, at_most: float) -> bool:
    """Whether a pause is over that ends at `until` and began as `at_most` seconds; also when the clock was set back."""
    return not 0 < until - now <= at_most


class Refusals:
    """Rooms by their conversation; None stands for all of them."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._again_at: dict[bytes | None, float] = {}

    def note(self, conversation: bytes | None) -> None:
        self._again_at[conversation] = self._clock() + ASK_AGAIN_SECONDS

    def clear(self) -> None:
        """The server lets us have rooms."""
        self._again_at.clear()

    def due(self) -> list[bytes | None]:
        """Those to be asked for again now; each is forgotten by that."""
        now = self._clock()
        found = [each for each, at in self._again_at.items() if is_over(at, now=now, at_most=ASK_AGAIN_SECONDS)]
        for each in found:
            del self._again_at[each]
        return found
