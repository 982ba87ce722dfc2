"""The live view: one HTML page that does not end, for browsers without scripts.

What the stream at /chat/live carries, in this order:

    head            charset, then `<meta http-equiv=refresh content="1;url=/chat/live?w=NAME">`, which fires when the
                    answer ends, for whatever reason, so that the page reconnects by itself; NAME is this window's
    banner          "connection lost" with a link; hidden, and shown by a CSS animation after 40 s (`.lost`)
    line            three sentences about those who answer; a class of the page says which one shows
    typing          an empty place for "Ada is writing…", below the messages
    messages        the newest fifty, from the same template as everywhere else; element id `m` + sequence number
  then, each as it happens:
    message         one more of them
    changed         a `<style>` that hides a message's words, wherever on the page they stand, and writes in their first
                    place what became of them; the words of a correction follow as a line of their own, id
                    `m` + sequence number + `v` + how many there have been. The old ones stay in what was sent, unseen,
                    until the page comes back: then everything has its new form
    progress        a `<style>` that names the message's id, hides its old state and writes the new one; once an
                    admin has read it, also a line that only screen readers get
    standing        a line: closed, opened again, blocked
    line            a `<style>` that shows another sentence, and writes it if it is not the one that the page has; and a
                    line that only screen readers get
    archive         a `<style>` that shows or hides the sentence about copies; and a line, when it came to be true
    typing          a `<style>` that renames the animation that shows the place for 8 s, and writes the name when it is
                    another one; at most every 3 s for each admin. A message of an admin ends it by one more style
    heartbeat       every 15 s a `<style>` that renames the banner's animation, which thereby starts again from zero

How much an hour adds: heartbeats 18 KB; an admin who writes without a pause 92 KB, of 77 bytes each time.

Every style carries the nonce of this answer's policy. The view subscribes before it reads the history, and shows
no sequence number twice, so nothing falls between and nothing comes double; progress only ever grows.

It ends by itself after about an hour, to stay small (the browser comes back after a second); when the
conversation was erased; when a newer window took its place, which it learns on coming back (`windows`); when the server
stops; and when its reader is too slow (the listener overflows, or `shim` cuts the connection). A reader that
has frozen is not noticed for minutes: that a stream is open says nothing about anyone being there.
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from veilsupport.desk import Listener
from veilsupport.errors import VisitorError
from veilsupport.model import Ended, Session, SignedOut, Site
from veilsupport.web.attended import Attended
from veilsupport.web.fragments import Fragments
from veilsupport.web.look import Look
from veilsupport.web.pages import Pages, Visit
from veilsupport.web.shim import circuit_of
from veilsupport.web.windows import Window

HEARTBEAT_SECONDS: Final = 15.0
LIFE_SECONDS: Final = 3600.0
_LIFE_SPREAD: Final = 0.1  # So that not all who came together leave together.

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{8,32}")


class Live:
    """The end point of /chat/live."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = self._pages.visit(Request(scope, receive))
        instead = self._instead(visit)
        if instead is not None:
            await instead(scope, receive, send)
            return
        assert visit.session is not None
        window = self._pages.windows.open(visit.session.token_hash, _name_of(visit.request), circuit_of(scope))
        await View(self._pages, visit.session, visit.site, window).run(receive, send)

    def _instead(self, visit: Visit) -> Response | None:
        """What is answered in place of a stream."""
        if visit.request.method not in ("GET", "HEAD"):
            raise VisitorError("This page does not take that.", status=405, code="method")
        if visit.session is None:
            return self._pages.signed_out(visit, frame=True)
        name = visit.request.query_params.get("w", "")
        if self._pages.windows.gave_way(visit.session.token_hash, name):
            return self._pages.look.frame("moved.html", site=visit.site)
        try:
            self._pages.open_stream(visit)
        except VisitorError as error:
            return self._pages.soon(visit, error)
        if visit.request.method == "HEAD":
            return self._pages.look.frame("stub.html", site=visit.site, seconds=1)
        return None


class View:
    """One open stream. `window` is its reserved place; run it once."""

    def __init__(self, pages: Pages, session: Session, site: Site, window: Window) -> None:
        self._pages = pages
        self._look: Look = pages.look
        self._session = session
        self._site = site
        self._window = window
        self._nonce = secrets.token_urlsafe(16)
        self._beats = 0

    async def run(self, receive: Receive, send: Send) -> None:
        """The whole answer. Subscribing comes first: the history read after it lacks nothing that follows."""
        self._send = send
        try:
            with self._pages.desk.listen(self._session) as listener:
                await self._run(listener, receive)
        finally:
            self._pages.windows.close(self._window)

    # What an embedded page has different.

    status = 200

    def headers(self, nonce: str) -> Mapping[str, str]:
        return {"content-security-policy": self._look.frame_policy(self._site, nonce)}

    def head(self, messages: str, attended: Attended) -> str:
        """The page's beginning, up to and with the messages so far."""
        return self._look.render(
            "view.html",
            self._site,
            live=True,
            refresh=f"1;url={self._look.prefix}/chat/live?w={self._window.name}",
            attended=attended,
            messages=messages,
        )

    def tail(self) -> str:
        return "</div></div></body></html>\n"

    # The stream itself.

    async def _run(self, listener: Listener, receive: Receive) -> None:
        await self._begin()
        self._window.on_over = listener.wake
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(_until_gone(receive))
            gone.add_done_callback(lambda _: listener.wake())
            try:
                await self._follow(listener, lambda: self._window.over or gone.done())
            finally:
                gone.cancel()
        await self._send({"type": "http.response.body", "body": self.tail().encode()})

    async def _begin(self) -> None:
        headers = MutableHeaders({"content-type": "text/html; charset=utf-8", **self.headers(self._nonce)})
        await self._send({"type": "http.response.start", "status": self.status, "headers": headers.raw})
        self._fragments = Fragments(self._pages, self._session, self._site, self._nonce)
        await self._write(self.head(self._fragments.first(), self._fragments.attended))

    async def _follow(self, listener: Listener, is_over: Callable[[], bool]) -> None:
        """Write what happens until it is over, the time is up, or nothing can follow."""
        loop = asyncio.get_running_loop()
        end_at = loop.time() + LIFE_SECONDS * (1 + random.uniform(0, _LIFE_SPREAD))  # noqa: S311 - no secret
        beat_at = loop.time()
        while loop.time() < end_at and not is_over():
            if loop.time() >= beat_at:
                beat_at = loop.time() + HEARTBEAT_SECONDS
                await self._write(self._heartbeat())
                continue  # It may have waited for a slow reader, and whoever ended the view meanwhile woke nobody.
            # Not until the next event: the end would tell of one that writes nothing.
            event = await listener.next(max(0.0, min(beat_at, end_at) - loop.time()))
            if event is not None:
                await self._write(self._fragments.of(event))
            if isinstance(event, Ended | SignedOut):
                return

    def _heartbeat(self) -> str:
        self._beats += 1
        return f'<style nonce="{self._nonce}">.lost{{animation-name:lost{self._beats % 2}}}</style>\n'

    async def _write(self, html: str) -> None:
        if html:
            await self._send({"type": "http.response.body", "body": html.encode(), "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _name_of(request: Request) -> str:
    """The window's name: what it says, if it could be one of ours, else a new one."""
    name = request.query_params.get("w", "")
    return name if _NAME.fullmatch(name) else secrets.token_urlsafe(12)
