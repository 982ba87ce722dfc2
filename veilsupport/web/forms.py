"""What comes with a request besides its path: the form, its token, the session's cookie.

A form token is minute || 32 random bytes || MAC, in URL-safe base64, and stands in a hidden field. It is bound to the
kind of form and, behind the sign-in, to the session; it is good for a day, because a page may lie open
for hours and a circuit may be slow. Its random bytes are the form's one-time name: the desk takes the same words under
the same name once, so Back, reload and a double click post nothing twice.

The MAC is keyed BLAKE2b (RFC 7693 §2.9: a keyed hash is a MAC by itself, no HMAC needed), with a key that lives as
long as the process or longer; whoever has it could make tokens, but learns nothing and still needs the cookie.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from veilsupport.errors import VisitorError
from veilsupport.model import Private

COOKIE: Final = "veil"
HANDED_COOKIE: Final = "veil-handed"
_HANDED_SECONDS: Final = 3600  # As long as a page that asks may lie open.
_COOKIE_MAX_CHARACTERS: Final = 256
_TOKEN_MINUTES: Final = 24 * 60
_EARLY_MINUTES: Final = 5  # A clock that was set back a little does no harm.
_FORM_MAX_FIELDS: Final = 16


class Tokens:
    """Makes and checks form tokens. `key` is 32 secret bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("the key has 32 bytes")
        self._key = key

    def issue(self, purpose: str, bound_to: bytes, *, now: float) -> str:
        """A fresh token for one form on one page."""
        minute = int(now // 60).to_bytes(4, "big")
        once = secrets.token_bytes(32)
        mac = self._mac(purpose, bound_to, minute + once)
        return base64.urlsafe_b64encode(minute + once + mac).decode()

    def read(self, token: str, purpose: str, bound_to: bytes, *, now: float) -> bytes:
        """The token's 32 random bytes. VisitorError: not ours, of another form or session, or too old."""
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _expired() from None
        signed, mac = raw[:36], raw[36:]
        if len(raw) != 68 or not hmac.compare_digest(mac, self._mac(purpose, bound_to, signed)):
            raise _expired()
        age = now // 60 - int.from_bytes(signed[:4], "big")
        if not -_EARLY_MINUTES <= age <= _TOKEN_MINUTES:
            raise _expired()
        return signed[4:]

    def _mac(self, purpose: str, bound_to: bytes, signed: bytes) -> bytes:
        # Each part has its own length in front: no two inputs are ever written alike.
        parts = (purpose.encode(), bound_to, signed)
        written = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        return hashlib.blake2b(written, digest_size=32, key=self._key, person=b"veil form token").digest()


def _expired() -> VisitorError:
    return VisitorError(
        "This page was open for too long, so nothing was sent. Your text is still here: please send it again.",
        status=403,
        code="form_expired",
    )


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of an ordinary HTML form; of fields given twice the last one counts.

    Not starlette's reader: it would take files too, and spool them to the disk. VisitorError: another kind of
    body, or too many fields.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise VisitorError("This desk takes plain forms only.", status=415, code="not_a_form")
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=_FORM_MAX_FIELDS, errors="replace"))
    except ValueError:
        raise VisitorError("This form has too many fields.", code="not_a_form") from None


def session_token(request: Request) -> Private | None:
    """What the session's cookie holds, if it could be one of ours."""
    return plausible_token(request.cookies.get(COOKIE, ""))


def handed_token(request: Request) -> Private | None:
    """What `hand_over` left."""
    return plausible_token(request.cookies.get(HANDED_COOKIE, ""))


def plausible_token(value: str) -> Private | None:
    if not value or len(value) > _COOKIE_MAX_CHARACTERS or not value.isascii():
        return None
    return Private(value)


def sign_in(response: Response, token: Private, *, path: str) -> Response:
    """Give the browser its session; `path` is where our pages begin.

    No expiry: the cookie goes when the browser is closed. Not Secure: over http on an onion it would be lost in some
    browsers, and the onion itself is encrypted end to end.
    """
    response.set_cookie(COOKIE, token.reveal(), httponly=True, samesite="strict", path=path)
    return response


def sign_out(response: Response, *, path: str) -> Response:
    """Take the session away from the browser, and whatever else it keeps of us."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", path=path)
    response.headers["clear-site-data"] = '"cache", "cookies", "storage"'
    return response


def hand_over(response: Response, token: Private, *, path: str) -> Response:
    """Give the browser a session for the page at `path` alone, which decides what becomes of it.

    For answers to other people's pages: to those a browser sends no SameSite=Strict cookie, so we cannot see
    whether it has a session already, which a cookie of the usual name would replace.
    """
    response.set_cookie(
        HANDED_COOKIE, token.reveal(), httponly=True, samesite="strict", path=path, max_age=_HANDED_SECONDS
    )
    return response


def take_over(response: Response, *, path: str) -> Response:
    """What was handed over has been decided upon."""
    response.delete_cookie(HANDED_COOKIE, httponly=True, samesite="strict", path=path)
    return response
