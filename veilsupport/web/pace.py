"""How fast anyone may be: the one place where the web asks the limits. For pages, API and WebSocket alike."""

from __future__ import annotations

import secrets
import unicodedata
from hashlib import blake2b
from typing import Final

from starlette.types import Scope

from veilsupport.errors import VisitorError
from veilsupport.limits import Act, By, Limits
from veilsupport.model import Private, Session
from veilsupport.web.guard import circuit_of

# One for all doors of this process, so that the page and the API do not each grant the tries of one account.
_ACCOUNT_KEY: Final = secrets.token_bytes(32)


def take(
    limits: Limits, act: Act, scope: Scope, *, session: Session | None = None, account: bytes = b"", now: float
) -> None:
    """VisitorError (429) when this circuit, session, account or everyone together is too fast.

    `account` is who someone says they are before the desk knows (`account_of`).
    """
    whose: dict[By, object] = {}
    if circuit := circuit_of(scope):
        whose[By.CIRCUIT] = circuit
    if session is not None:
        whose |= {By.SESSION: session.token_hash, By.ACCOUNT: session.visitor.id}
    if account:
        whose[By.ACCOUNT] = account
    wait = limits.take(act, whose, now=now)
    if wait > 0:
        raise VisitorError(
            "That was a bit fast for this desk. Nothing was sent.",
            status=429,
            code="too_fast",
            retry_after_seconds=wait,
        )


def account_of(email: Private) -> bytes:
    """Whose bucket an e-mail address is, the address itself being kept nowhere.

    Folded as the desk folds it before looking it up: else each other spelling of one address (full-width letters,
    say) would have tries of its own.
    """
    folded = unicodedata.normalize("NFKC", email.reveal()).strip().casefold()
    return blake2b(folded.encode(errors="replace"), key=_ACCOUNT_KEY).digest()
