"""How fast anyone may be: the one place where the web asks limits, guesses and breaker. For pages, API and WebSocket.

It also notices who floods: whoever is refused too often has their circuit closed (`on_flood`).
"""

from __future__ import annotations

import contextlib
import secrets
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from starlette.types import Scope

from veilsupport.breaker import OUTBOX_MAX, OUTBOX_STARTS_MAX, Breaker
from veilsupport.errors import VisitorError
from veilsupport.guesses import Guesses
from veilsupport.limits import GUESSES, REFUSALS, Act, By, Limits
from veilsupport.model import Private, Session
from veilsupport.web.puzzle import Puzzle, Puzzles
from veilsupport.web.shim import CIRCUIT_PREFIX, circuit_of

_WRONG: Final = frozenset({"wrong_password", "unknown_code"})
_READING: Final = frozenset({Act.LOOK, Act.PAGE, Act.READ, Act.STREAM})
_FULL_SECONDS: Final = 300.0  # a backlog is worked off in minutes


@dataclass(frozen=True, slots=True)
class Solution:
    """What came with a request to a puzzle; `form` is the one-time name of the form, if it was one."""

    id: str = ""
    answer: str = ""
    form: bytes = b""


class Pace:
    """One for all doors of a process, so that the page and the API do not each grant the tries of one account.

    `on_flood` is told the number of a circuit that should be closed, as tor's control port counts them.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        key: bytes,
        breaker: Breaker | None = None,
        on_flood: Callable[[int], None] = lambda circuit: None,
    ) -> None:
        self._limits = limits
        self._breaker = breaker or Breaker()
        self._puzzles = Puzzles(key)
        self._guesses = Guesses()
        self._refusals = Limits((REFUSALS,))
        self._on_flood = on_flood
        self._account_key = secrets.token_bytes(32)

    def __len__(self) -> int:
        """How many strangers' doings are remembered."""
        return len(self._limits) + len(self._guesses) + len(self._refusals) + len(self._puzzles)

    @property
    def is_pressed(self) -> bool:
        """Whether new conversations need a puzzle."""
        return self._breaker.is_tripped

    # ---- asking ----------------------------------------------------------------------------------------------

    def take(self, act: Act, scope: Scope, *, session: Session | None = None, site: str = "", now: float) -> None:
        """VisitorError (429) when this circuit, session, account, site or everyone together is too fast."""
        whose: dict[By, object] = {By.SITE: site}
        if circuit := circuit_of(scope):
            whose[By.CIRCUIT] = circuit
        if session is not None:
            whose |= {By.SESSION: session.token_hash, By.ACCOUNT: session.visitor.id}
        wait = self._limits.take(act, whose, now=now)
        if wait > 0:
            raise _too_fast(wait, sends=act not in _READING)

    def look(self, scope: Scope, *, session: Session | None, now: float) -> None:
        """A page is asked for. VisitorError (429)."""
        self.take(Act.PAGE if session is not None else Act.LOOK, scope, session=session, now=now)

    def start(self, scope: Scope, solution: Solution, *, site: str, now: float) -> None:
        """Somebody wants to begin a conversation. VisitorError: 429, 503; PuzzleError (403)."""
        # Those who cannot answer share one allowance; who has answered does not stand in their queue.
        if self._puzzles.again(solution.id, solution.answer, now=now) is None:
            self.take(Act.KNOCK, scope, now=now)
        self._breaker.knocked(now=now)
        self._check_outbox(OUTBOX_STARTS_MAX)
        if self._breaker.is_tripped:
            self._puzzles.check(solution.id, solution.answer, form=solution.form, now=now)
        self.take(Act.START, scope, site=site, now=now)
        if self._breaker.is_tripped:
            self._puzzles.use(solution.id, form=solution.form)

    def send(self, scope: Scope, session: Session, *, now: float) -> None:
        """A further message. VisitorError: 429, 503."""
        self._check_outbox(OUTBOX_MAX)
        self.take(Act.SEND, scope, session=session, now=now)

    @contextlib.contextmanager
    def signing_in(
        self, scope: Scope, email: Private, solution: Solution, *, session: Session | None = None, now: float
    ) -> Iterator[None]:
        """Around a try with e-mail and password, from within a session to change it.

        VisitorError: 429; PuzzleError (403): many guess at this account.
        """
        circuit, account = circuit_of(scope), self._account_of(email)
        with self._guessing(circuit, account, now):
            is_pressed = session is None and self._guesses.is_pressed(account, now=now)
            if is_pressed:
                self._puzzles.check(solution.id, solution.answer, form=solution.form, now=now)
            has_failed = self._guesses.has_failed(circuit, account, now=now)
            self.take(Act.GUESS if has_failed else Act.LOGIN, scope, session=session, now=now)
            if is_pressed:
                self._puzzles.use(solution.id, form=secrets.token_bytes(8))  # Each try takes one.
            yield

    @contextlib.contextmanager
    def returning(self, scope: Scope, *, now: float) -> Iterator[None]:
        """Around a try with a return code. VisitorError: 429."""
        with self._guessing(circuit_of(scope), None, now):
            self.take(Act.RETURN, scope, now=now)
            yield

    @contextlib.contextmanager
    def _guessing(self, circuit: str | None, account: bytes | None, now: float) -> Iterator[None]:
        wait = self._guesses.wait(circuit, account, now=now)
        if wait > 0:
            self._limits.on_hit(GUESSES)
            raise _too_fast(wait)
        try:
            yield
        except VisitorError as error:
            if error.code in _WRONG:
                self._guesses.failed(circuit, account, now=now)
            raise
        self._guesses.succeeded(circuit, account)

    def _check_outbox(self, most: int) -> None:
        if self._breaker.backlog >= most:
            raise VisitorError(
                "Too much waits to be handed over at this moment, so nothing more is taken and nothing was sent.",
                status=503,
                code="full",
                retry_after_seconds=_FULL_SECONDS,
            )

    # ---- puzzles and floods ----------------------------------------------------------------------------------

    def puzzle(self, solution: Solution, *, now: float) -> Puzzle:
        """What a form shows: the one that was solved, while it is good, or another one."""
        return self._puzzles.again(solution.id, solution.answer, now=now) or self._puzzles.issue(now=now)

    def refused(self, scope: Scope, *, now: float) -> None:
        """Something was refused there, for whatever reason."""
        if circuit := circuit_of(scope):
            self.misbehaved(circuit, now=now)

    def misbehaved(self, circuit: str, *, now: float) -> None:
        if self._refusals.take(Act.REFUSAL, {By.CIRCUIT: circuit}, now=now) > 0:
            self._on_flood(int(circuit.removeprefix(CIRCUIT_PREFIX), 16))

    def _account_of(self, email: Private) -> bytes:
        """Whose count an e-mail address is, the address itself being kept nowhere.

        Folded as the desk folds it before looking it up: else each other spelling of one address (full-width letters,
        say) would have tries of its own.
        """
        folded = unicodedata.normalize("NFKC", email.reveal()).strip().casefold()
        return blake2b(folded.encode(errors="replace"), key=self._account_key).digest()


def _too_fast(wait: float, *, sends: bool = True) -> VisitorError:
    """`sends`: something was to be sent. A page may show what was sent just before, so it must not deny that."""
    words = "That was a bit fast for this desk."
    if sends:
        words += " Nothing was sent."
    return VisitorError(words, status=429, code="too_fast", retry_after_seconds=wait)
