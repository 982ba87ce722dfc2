"""How often anyone may do anything: token buckets by circuit, session, account and overall.

A bucket holds at most `burst` tokens and gains `per_second` of them; each act takes one from every bucket that
concerns it, or from none when one of them is empty. So no one ever gets more than burst + rate * time.

Nobody is known by network address. A circuit is tor's number for one visitor's path to us; on loopback there is
none, so its rows do not apply. Pure: knows no clock (`now` is an argument), no HTTP and no desk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Act(StrEnum):
    """What is limited."""

    START = "start"  # a first message, which makes a visitor
    LOGIN = "login"  # return code, e-mail and password, registration
    SEND = "send"  # a further message
    STREAM = "stream"  # opening (or reopening) the live view
    READ = "read"  # a page of history over the API


class By(StrEnum):
    """Whose bucket it is."""

    CIRCUIT = "circuit"
    SESSION = "session"
    ACCOUNT = "account"
    OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `why` is the reason for its numbers."""

    act: Act
    by: By
    per_second: float
    burst: int
    why: str

    @property
    def name(self) -> str:
        """`send by circuit`."""
        return f"{self.act} by {self.by}"


# Every act has an overall row: it also bounds memory, because only an act that was allowed leaves a bucket behind.
TABLE: Final = (
    Row(Act.START, By.CIRCUIT, 1 / 60, 5, "a person starts once; five covers mistakes and shared computers"),
    Row(
        Act.START,
        By.OVERALL,
        2,
        200,
        "admins cannot answer more new people than that; a press report brings 200 at once",
    ),
    Row(Act.LOGIN, By.CIRCUIT, 1 / 20, 8, "a mistyped code or password, eight times in a row"),
    Row(Act.LOGIN, By.ACCOUNT, 1 / 60, 10, "guessing one password: 1,450 tries a day; open sessions are not touched"),
    Row(Act.LOGIN, By.OVERALL, 5, 200, "Argon2id gives about 13 a second on two cores; leave half for the desk"),
    Row(Act.SEND, By.CIRCUIT, 1, 40, "as the session's, with room for two people behind one circuit"),
    Row(Act.SEND, By.SESSION, 1 / 2, 20, "fast typing in short lines is one line in two seconds"),
    Row(Act.SEND, By.ACCOUNT, 1, 40, "the same person in several browsers; flooding phones is not helping anyone"),
    Row(Act.SEND, By.OVERALL, 200, 2000, "a tenth of what the disk and the seals were measured to carry"),
    Row(Act.READ, By.CIRCUIT, 5, 100, "as the session's, for two people behind one circuit"),
    Row(Act.READ, By.SESSION, 3, 60, "a program that pages through a long history, or asks now and then"),
    Row(Act.READ, By.OVERALL, 200, 2000, "unsealing a page takes the loop some milliseconds"),
    Row(Act.STREAM, By.CIRCUIT, 1 / 2, 30, "a shaky path reopens every second for a while"),
    Row(Act.STREAM, By.SESSION, 1 / 2, 30, "the same, when each try comes over a new circuit"),
    Row(Act.STREAM, By.OVERALL, 100, 2000, "after a pause of tor everyone comes back at once"),
)


class Limits:
    """The buckets of one process. Nothing of it rests on disk."""

    def __init__(self, table: tuple[Row, ...] = TABLE) -> None:
        self.on_hit: Callable[[Row], None] = lambda row: None  # told of every limit that refused something
        self._rows = {act: tuple(row for row in table if row.act is act) for act in Act}
        # (row, whose) -> (tokens, when they were counted). A full bucket is the same as none and is forgotten.
        self._buckets: dict[tuple[Row, object], tuple[float, float]] = {}
        self._sweep_at = 1024

    def __len__(self) -> int:
        """How many buckets are remembered."""
        return len(self._buckets)

    def take(self, act: Act, whose: Mapping[By, object], *, now: float) -> float:
        """0.0 when allowed, else the seconds until it would be. Who is missing in `whose` has no such limit.

        A refusal takes nothing, so trying again too early does not lengthen the wait.
        """
        concerned = [(row, self._key(row, whose)) for row in self._rows[act] if self._applies(row, whose)]
        counted = [(row, key, self._tokens(row, key, now)) for row, key in concerned]
        wait = max(((1 - tokens) / row.per_second for row, _, tokens in counted if tokens < 1), default=0.0)
        if wait > 0:
            for row, _, tokens in counted:
                if tokens < 1:
                    self.on_hit(row)
            return wait
        for _, key, tokens in counted:
            self._buckets[key] = (tokens - 1, now)
        if len(self._buckets) >= self._sweep_at:
            self.forget_idle(now=now)
        return 0.0

    def forget_idle(self, *, now: float) -> None:
        """Drop the buckets that are full again. Called by itself whenever their number has doubled."""
        idle = [key for key in self._buckets if self._tokens(key[0], key, now) >= key[0].burst]
        for key in idle:
            del self._buckets[key]
        self._sweep_at = max(1024, 2 * len(self._buckets))

    @staticmethod
    def _applies(row: Row, whose: Mapping[By, object]) -> bool:
        return row.by is By.OVERALL or row.by in whose

    @staticmethod
    def _key(row: Row, whose: Mapping[By, object]) -> tuple[Row, object]:
        return row, whose.get(row.by)

    def _tokens(self, row: Row, key: tuple[Row, object], now: float) -> float:
        if key not in self._buckets:
            return row.burst
        tokens, at = self._buckets[key]
        # A clock that steps back gives nothing and takes nothing.
        return min(row.burst, tokens + max(0.0, now - at) * row.per_second)
