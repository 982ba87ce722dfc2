"""Whose pages may speak to the API: the exact origins of the sites, and nobody else's (CORS).

A browser sends `Origin` with whatever a page of another origin asks. Listed ones may read our answers; they speak
with a bearer token, never with a cookie, so no page can act in the name of a visitor whose token it does not hold,
and `Access-Control-Allow-Credentials` is never sent. Programs that are no browsers send no origin and need none.
The Fetch standard, "HTTP-CORS protocol".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from starlette.types import Scope

from veilsupport.model import Site

API_PREFIX: Final = "/api/"
_PREFLIGHT_SECONDS: Final = 600
_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (b"access-control-allow-headers", b"authorization, content-type"),
    (b"access-control-max-age", b"%d" % _PREFLIGHT_SECONDS),
)

Headers = list[tuple[bytes, bytes]]


def is_api(scope: Scope) -> bool:
    """Whether this path speaks JSON, to programs and to other people's pages."""
    return bool(scope["path"].startswith(API_PREFIX))


def origin_of(scope: Scope) -> bytes | None:
    """The request's origin; None when it names none. Two of them are like one that nobody has."""
    found = [value for name, value in scope["headers"] if name == b"origin"]
    return None if not found else bytes(found[0]) if len(found) == 1 else b""


def is_own(scope: Scope) -> bool:
    """Whether a page of ours asks: its origin is the very address that the request came to."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return origin_of(scope) == b"http://" + host


def is_preflight(scope: Scope) -> bool:
    """A browser that asks whether it may ask."""
    return scope["type"] == "http" and scope["method"] == "OPTIONS" and origin_of(scope) is not None and is_api(scope)


class Origins:
    """The listed origins, as the sites are now."""

    def __init__(self, sites: Callable[[], Mapping[str, Site]]) -> None:
        self._sites = sites

    def site_of(self, scope: Scope) -> str | None:
        """The name of the site that lists the request's origin; None when none does."""
        origin = (origin_of(scope) or b"").decode("latin-1")
        return next((name for name, site in self._sites().items() if origin and origin in site.origins), None)

    def headers(self, scope: Scope) -> Headers:
        """What an answer of the API carries for the browser's sake, whatever it says."""
        vary = [(b"vary", b"origin")]
        origin = origin_of(scope)
        if origin is None or self.site_of(scope) is None:
            return vary
        allowed = [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", b"retry-after")]
        return [*vary, *allowed, *(_PREFLIGHT if is_preflight(scope) else ())]
