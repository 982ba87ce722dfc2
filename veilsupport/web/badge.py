"""The badge: a small picture on other people's pages that says whether somebody is there to answer.

The only answer that any page may show as a picture. It tells nothing but what the desk's page tells everybody.
`packaging/badges` draws the pictures in static/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from veilsupport import resources
from veilsupport.desk import Desk
from veilsupport.errors import VisitorError
from veilsupport.model import Site
from veilsupport.web.attended import DeskIs, attended

_HEADERS: Final = {"cache-control": "public, max-age=60", "cross-origin-resource-policy": "cross-origin"}


class Badge:
    """The end point of /badge/NAME.png."""

    def __init__(self, desk: Desk, sites: Callable[[], Mapping[str, Site]], clock: Callable[[], float]) -> None:
        self._desk = desk
        self._sites = sites
        self._clock = clock
        self._pictures = {state: resources.path(f"static/badge-{state}.png").read_bytes() for state in DeskIs}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if request.method not in ("GET", "HEAD"):
            raise VisitorError("This page does not take that.", status=405, code="method")
        site = request.path_params["site"]
        if site not in self._sites():
            raise VisitorError("There is no such site.", status=404, code="not_found")
        state = attended(self._desk.attendance(site, now=self._clock())).state
        picture = Response(self._pictures[state], media_type="image/png", headers=_HEADERS)
        await picture(scope, receive, send)
