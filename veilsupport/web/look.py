"""How answers look: templates, the one stylesheet, and the content security policy that fits each page.

First pages carry the stylesheet inside, so that one answer shows everything; the pages of a conversation share
the cached file. Knows nothing of the desk's rules.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import jinja2
from starlette.responses import RedirectResponse, Response

from veilsupport import resources
from veilsupport.errors import VisitorError
from veilsupport.model import Author, Message, Progress

_FIXED_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'self'; "

# What a visitor reads about each of their messages. Also stands inside a streamed style: no quotes, no backslash.
PROGRESS_WORDS: Final = {
    Progress.KEPT: "kept here",
    Progress.HANDED_OVER: "handed over",
    Progress.ON_DEVICE: "on an admin’s device",
    Progress.READ: "read",
}

_HEADLINES: Final = {
    400: "That did not work",
    403: "Not from there",
    404: "There is no such page",
    405: "That cannot be done here",
    408: "That took too long",
    413: "That is too much at once",
    421: "Wrong address",
    429: "A little slower, please",
    500: "Something broke on our side",
    503: "Not at this moment",
}


def _shrunk(css: str) -> str:
    without_comments = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    return re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r"\s+", " ", without_comments)).strip()


def _at(minute: int, today: int) -> str:
    """A time of day in UTC, with its date unless that is today. Nobody's time zone is known here."""
    moment = datetime.fromtimestamp(minute * 60, UTC)
    if minute // 1440 == today:
        return f"{moment:%H:%M} UTC"
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def _iso(minute: int) -> str:
    return f"{datetime.fromtimestamp(minute * 60, UTC):%Y-%m-%dT%H:%MZ}"


class Look:
    """Makes answers out of templates. `name` and `greeting` are the operator's words for the desk."""

    def __init__(self, *, name: str, greeting: str) -> None:
        self.css = _shrunk(resources.text("static/style.css"))
        digest = hashlib.sha256(self.css.encode()).digest()
        self.css_path = f"/static/style.{digest.hex()[:16]}.css"
        self._inline_source = f"'sha256-{base64.b64encode(digest).decode()}'"
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(resources.path("veilsupport/web/templates")),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters.update(at=_at, iso=_iso)
        self._templates.globals.update(
            desk_name=name,
            greeting=greeting,
            inline=False,
            css=self.css,
            css_path=self.css_path,
            progress_words=PROGRESS_WORDS,
            Author=Author,
            Progress=Progress,
        )

    def page(self, template: str, *, status: int = 200, **values: object) -> Response:
        """A page of its own, with the stylesheet inside."""
        policy = f"{_FIXED_POLICY}style-src {self._inline_source}; frame-ancestors 'none'"
        return self._response(template, policy, status, {"inline": True, **values})

    def chat_page(self, template: str, *, status: int = 200, **values: object) -> Response:
        """A page around the conversation's frames; takes the stylesheet from the cache."""
        policy = f"{_FIXED_POLICY}style-src 'self'; frame-src 'self'; frame-ancestors 'none'"
        return self._response(template, policy, status, values)

    def frame(self, template: str, *, status: int = 200, **values: object) -> Response:
        """The content of one of those frames."""
        return self._response(template, self.frame_policy(), status, values)

    def frame_policy(self, nonce: str = "") -> str:
        """`nonce` allows the streamed styles of a live view."""
        streamed = f" 'nonce-{nonce}'" if nonce else ""
        return f"{_FIXED_POLICY}style-src 'self'{streamed}; frame-ancestors 'self'"

    def problem(self, error: VisitorError) -> Response:
        """The page for a request that no form can answer."""
        headline = _HEADLINES.get(error.status, _HEADLINES[400])
        response = self.page("problem.html", status=error.status, headline=headline, error=error)
        return with_retry_after(response, error)

    def proxied(self, onion: str) -> Response:
        """The warning for a visitor who reads us through a proxy that takes them out of Tor."""
        return self.page("proxied.html", status=403, onion=onion.removesuffix(".onion"))

    def render(self, template: str, **values: object) -> str:
        return self._templates.get_template(template).render(values)

    def messages(self, messages: Sequence[Message], *, today: int) -> str:
        """The fragment that pages and streams share."""
        return self.render("messages.html", messages=messages, today=today)

    def _response(self, template: str, policy: str, status: int, values: dict[str, object]) -> Response:
        response = Response(self.render(template, **values), status, media_type="text/html")
        response.headers["content-security-policy"] = policy
        return response


def go_to(place: str) -> Response:
    """303: the browser fetches `place` next, so that reloading it posts nothing."""
    return RedirectResponse(place, status_code=303)


def with_retry_after(response: Response, error: VisitorError) -> Response:
    """Tell programs too when to try again."""
    if error.retry_after_seconds is not None:
        response.headers["retry-after"] = str(max(1, round(error.retry_after_seconds)))
    return response
