"""Wrong passwords and codes: whoever guesses waits longer and longer, and whose account it is does not.

Three counts. A *circuit* that was wrong eight times, about whatever, waits; one that was wrong three times about the
same *account* waits too: some seconds, then twice as long with each further try, to a quarter of an hour. And an
account that was guessed at ten times, from wherever, is *pressed*: circuits that were wrong three times about it have
to leave it alone, for a minute and then twice as long each time, to an hour; from all others signing in goes on, with
a puzzle (web/puzzle.py) in front, since each could be the next circuit of the same guesser. So nobody can lock
somebody else out: a circuit pays for its own mistakes. Open sessions and return codes are no business of this.

An account is whatever name it is given, whether or not there is such an account: both look alike from outside.
Pure: knows no clock (`now` is an argument). Bounded: as guesses are limited to six a second overall, 8,192 places are
twenty minutes, more than the longest wait of a circuit; a pressed account renews its place with every guess.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

CIRCUIT_FREE: Final = 8
PAIR_FREE: Final = 3
PRESSED_FROM: Final = 10
FORGOTTEN_SECONDS: Final = 3600.0  # a wrong try is, when no other followed
_CIRCUIT_FIRST_SECONDS: Final = 20.0  # as its buckets say then, so that the wait that is told is the whole one
_FIRST_SECONDS, _LONGEST_SECONDS = 5.0, 900.0
_LOCK_FIRST_SECONDS, _LOCK_LONGEST_SECONDS = 60.0, 3600.0
_REMEMBERED: Final = 8192

K = TypeVar("K")


class Guesses:
    """What went wrong in one process; `circuit` is None on loopback, where all are one. Nothing rests on disk."""

    def __init__(self) -> None:
        self._circuits: _Counts[str] = _Counts()
        self._pairs: _Counts[tuple[str | None, bytes]] = _Counts()
        self._accounts: _Counts[bytes] = _Counts()

    def __len__(self) -> int:
        return len(self._circuits) + len(self._pairs) + len(self._accounts)

    def wait(self, circuit: str | None, account: bytes | None, *, now: float) -> float:
        """Seconds until this circuit may try (this account) again; 0.0: now. `account` is None for a return code."""
        waits = [0.0]
        if circuit is not None:
            waits.append(self._circuits.wait(circuit, CIRCUIT_FREE, _CIRCUIT_FIRST_SECONDS, _LONGEST_SECONDS, now))
        if account is not None:
            pair = (circuit, account)
            waits.append(self._pairs.wait(pair, PAIR_FREE, _FIRST_SECONDS, _LONGEST_SECONDS, now))
            if self._pairs.count(pair, now) >= PAIR_FREE:
                lock = self._accounts.wait(account, PRESSED_FROM, _LOCK_FIRST_SECONDS, _LOCK_LONGEST_SECONDS, now)
                waits.append(lock)
        return max(waits)

    def has_failed(self, circuit: str | None, account: bytes, *, now: float) -> bool:
        """Whether that circuit was wrong lately; on loopback, about that account."""
        return self._pairs.count((circuit, account), now) > 0 or (
            circuit is not None and self._circuits.count(circuit, now) > 0
        )

    def is_pressed(self, account: bytes, *, now: float) -> bool:
        """Whether many were wrong about that account lately."""
        return self._accounts.count(account, now) >= PRESSED_FROM

    def failed(self, circuit: str | None, account: bytes | None, *, now: float) -> None:
        """That was wrong."""
        if circuit is not None:
            self._circuits.add(circuit, now)
        if account is not None:
            self._pairs.add((circuit, account), now)
            self._accounts.add(account, now)

    def succeeded(self, circuit: str | None, account: bytes | None) -> None:
        """It was right: what the circuit had wrong about it was mistyped. What others guess is still counted."""
        if account is not None:
            self._pairs.forget((circuit, account))


class _Counts(Generic[K]):
    """How often something happened, and when the last time; whatever was not touched for longest goes first."""

    def __init__(self) -> None:
        self._found: OrderedDict[K, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def count(self, key: K, now: float) -> int:
        count, at = self._found.get(key, (0, now))
        if now < at:  # The clock was set back: it counts from here on.
            self._found[key] = (count, now)
        return 0 if now - at > FORGOTTEN_SECONDS else count

    def wait(self, key: K, free: int, first: float, longest: float, now: float) -> float:
        count = self.count(key, now)
        if count < free:
            return 0.0
        span = min(longest, first * 2.0 ** min(count - free, 32))
        return max(0.0, self._found[key][1] + span - now)

    def add(self, key: K, now: float) -> None:
        self._found[key] = (self.count(key, now) + 1, now)
        self._found.move_to_end(key)
        if len(self._found) > _REMEMBERED:
            self._found.popitem(last=False)

    def forget(self, key: K) -> None:
        self._found.pop(key, None)
