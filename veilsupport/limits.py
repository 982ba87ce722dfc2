"""How often anyone may do anything: token buckets by circuit, session, account, site and overall.

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

    KNOCK = "knock"  # asking for a new conversation, also in vain
    START = "start"  # a first message, which makes a visitor; a registration
    LOGIN = "login"  # e-mail and password, from where nothing was wrong before
    GUESS = "guess"  # the same, from a circuit that was wrong before, or for an address that many were wrong about
    RETURN = "return"  # return code, or a new token for an old one
    SEND = "send"  # a further message
    STREAM = "stream"  # opening (or reopening) the live view
    READ = "read"  # a page of history over the API
    LOOK = "look"  # a page, by somebody who has no conversation
    PAGE = "page"  # a page of a conversation
    REFUSAL = "refusal"  # being refused; who is refused too often floods


class By(StrEnum):
    """Whose bucket it is."""

    CIRCUIT = "circuit"
    SESSION = "session"
    ACCOUNT = "account"
    SITE = "site"
    OVERALL = "overall"


@dataclass(frozen=True, slots=True, eq=False)  # each is itself, and as quick a key as can be
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


# Every act has an overall row: it also bounds memory, because only an act that was allowed leaves a bucket behind, and
# that for as long as its one token takes to come back. So there are never more than burst + rate of the overall row,
# the latter times that span, for each row: 36,000 in all, and twice that between two sweeps, or 25 MB.
TABLE: Final = (
    Row(Act.KNOCK, By.CIRCUIT, 1 / 5, 20, "a puzzle or two got wrong, a text too long; one circuit is no rush"),
    Row(Act.KNOCK, By.OVERALL, 50, 500, "each costs a page and no disk; the rush is what the breaker counts"),
    Row(Act.START, By.CIRCUIT, 1 / 60, 5, "a person starts once; five covers mistakes and shared computers"),
    Row(Act.START, By.SITE, 1, 150, "half of all: a rush on one site leaves the other sites' visitors a way in"),
    Row(
        Act.START,
        By.OVERALL,
        2,
        200,
        "admins cannot answer more new people than that; a press report brings 200 at once",
    ),
    Row(Act.LOGIN, By.CIRCUIT, 1 / 20, 8, "several accounts behind one circuit, eight in a row"),
    Row(Act.LOGIN, By.OVERALL, 5, 200, "Argon2id gives about 13 a second on two cores; leave half for the desk"),
    Row(Act.GUESS, By.CIRCUIT, 1 / 20, 8, "a mistyped password, eight times in a row; waits grow besides"),
    Row(Act.GUESS, By.OVERALL, 1, 50, "who guesses shares this, and takes nothing from those who have not been wrong"),
    Row(Act.RETURN, By.CIRCUIT, 1 / 20, 8, "a mistyped code, eight times in a row; nobody guesses 90 bits"),
    Row(Act.RETURN, By.SESSION, 1 / 20, 8, "a program renews its token once in a while"),
    Row(Act.RETURN, By.OVERALL, 50, 500, "a hash and a look-up; a flood of passwords does not close this door"),
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
    Row(Act.LOOK, By.CIRCUIT, 1, 60, "reading everything and reloading it on a slow circuit is a page a second"),
    Row(Act.LOOK, By.OVERALL, 100, 1000, "a page takes the loop a millisecond: a tenth of it for those who only look"),
    Row(Act.PAGE, By.CIRCUIT, 3, 150, "as the session's, for two people behind one circuit"),
    Row(Act.PAGE, By.SESSION, 2, 120, "a send takes two pages, an impatient reload four: far above what hands can do"),
    Row(Act.PAGE, By.OVERALL, 200, 2000, "as reading over the API, and apart from those who only look"),
)
# Not in the table: it refuses nothing, and what one process can refuse in a second bounds its buckets.
REFUSALS: Final = Row(
    Act.REFUSAL, By.CIRCUIT, 1, 150, "no browser is refused 150 times in a minute: the circuit closes"
)
# For counting refusals of guesses.py, whose numbers stand there.
GUESSES: Final = Row(Act.GUESS, By.ACCOUNT, 1 / 60, 10, "guesses.py")


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
        counted: list[tuple[tuple[Row, object], float]] = []
        wait = 0.0
        for row in self._rows[act]:
            if row.by is not By.OVERALL and row.by not in whose:
                continue
            key = (row, whose.get(row.by))
            tokens = self._tokens(row, key, now)
            counted.append((key, tokens))
            if tokens < 1:
                wait = max(wait, (1 - tokens) / row.per_second)
        if wait > 0:
            for (row, _), tokens in counted:
                if tokens < 1:
                    self.on_hit(row)
            return wait
        for key, tokens in counted:
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

    def _tokens(self, row: Row, key: tuple[Row, object], now: float) -> float:
        known = self._buckets.get(key)
        if known is None:
            return row.burst
        tokens, at = known
        if now < at:  # The clock was set back: that gives nothing and takes nothing, and it counts from here on.
            self._buckets[key] = (tokens, now)
        return min(row.burst, tokens + max(0.0, now - at) * row.per_second)
