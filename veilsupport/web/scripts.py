"""The script files of static/: the SDK for other people's pages, and what our chat page runs.

Other pages ask for the SDK by its plain name, from anywhere (`Cross-Origin-Resource-Policy`); to import it as a module
their origin must be listed (CORS). Our own page asks by a name with the content's hash in it, and keeps what it gets.
MIME types stand here, because the machine's registry may say something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from veilsupport import resources
from veilsupport.web.origins import Origins

_JAVASCRIPT: Final = "text/javascript; charset=utf-8"
_SDK: Final = {
    "veilsupport-client.js": _JAVASCRIPT,
    "veilsupport-client.mjs": _JAVASCRIPT,
    "veilsupport-client.d.ts": "text/plain; charset=utf-8",  # ".d.ts" has no type of its own; some take it for a film.
}
_CHAT: Final = ("veilsupport-client.js", "chat.js")  # in the order in which the page runs them
_SDK_SECONDS: Final = 3600  # So long a page may run an SDK that we have mended.


def chat_paths() -> list[str]:
    """Where our chat page finds its scripts."""
    return [_hashed(name) for name in _CHAT]


def routes(origins: Origins) -> list[Route]:
    """Everything that is served from here."""
    public = [Route(f"/static/{name}", _public(name, kind, origins)) for name, kind in _SDK.items()]
    return public + [Route(_hashed(name), _own(name)) for name in _CHAT]


def _hashed(name: str) -> str:
    digest = hashlib.sha256(_content(name).encode()).hexdigest()[:16]
    return f"/static/{PurePosixPath(name).stem}.{digest}.js"


def _content(name: str) -> str:
    return resources.text(f"static/{name}")


def _public(name: str, kind: str, origins: Origins) -> Callable[[Request], Awaitable[Response]]:
    content = _content(name)

    async def answer(request: Request) -> Response:
        response = Response(content, media_type=kind)
        response.headers["cache-control"] = f"public, max-age={_SDK_SECONDS}"
        response.headers["cross-origin-resource-policy"] = "cross-origin"
        response.raw_headers.extend(origins.headers(request.scope))
        return response

    return answer


def _own(name: str) -> Callable[[Request], Awaitable[Response]]:
    content = _content(name)

    async def answer(_request: Request) -> Response:
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=_JAVASCRIPT, headers=headers)

    return answer
