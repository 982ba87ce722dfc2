"""How answers look: templates, the one stylesheet, and the content security policy that fits each page.

First pages carry the stylesheet inside, so that one answer shows everything; the pages of a conversation share
the cached file. Every page wears a site: its title, greeting and accent colour; a template's `site` says which, and
without one it is the desk's own. Knows nothing of the desk's rules.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import jinja2
from starlette.responses import RedirectResponse, Response

from veilsupport import resources
from veilsupport.errors import VisitorError
from veilsupport.model import Author, Conversation, Message, MessageState, Progress, Site, Standing
from veilsupport.web import accent, scripts, shapes

_FIXED_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'self'; "

# What a visitor reads about each of their messages. Also stands inside a streamed style: no quotes, no backslash.
PROGRESS_WORDS: Final = {
    Progress.KEPT: "kept here",
    Progress.HANDED_OVER: "handed over",
    Progress.ON_DEVICE: "on an admin’s device",
    Progress.READ: "read",
}

# What became of a message's words; in the page, in a streamed style, and in what a script copies.
CHANGE_WORDS: Final = {MessageState.CORRECTED: "edited", MessageState.RETRACTED: "removed by the desk"}

# While the operator's archive is on. Stands on every page where somebody can write.
ARCHIVED_WORDS: Final = "The people here keep a copy of this conversation that they can open later."

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
    tight = re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r"\s+", " ", without_comments)).strip()
    return tight.replace(": ", ":")  # in declarations and media queries; no selector and no string of ours has it


@functools.lru_cache(maxsize=256)
def _at(minute: int, today: int) -> str:
    """A time of day in UTC, with its date unless that is today. Nobody's time zone is known here."""
    moment = datetime.fromtimestamp(minute * 60, UTC)
    if minute // 1440 == today:
        return f"{moment:%H:%M} UTC"
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def _css(text: str) -> str:
    """Any text as the inside of a CSS string in a style element (CSS Syntax §4.3.7).

    Everything but plain letters, digits and blanks is written as its number, which a blank ends. So no text can end
    the string, the rule or the element.
    """
    return re.sub(r"[^A-Za-z0-9 ]", lambda found: f"\\{ord(found[0]):x} ", text)


@functools.cache
def _templates(root: str, css: str, css_path: str) -> jinja2.Environment:
    """All of them, compiled, which takes long; nothing in them changes but what is given here."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.path("veilsupport/web/templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.filters.update(at=_at, iso=shapes.at, css=_css)
    templates.globals.update(
        root=root,
        inline=False,
        css=css,
        css_path=root + css_path,
        chat_scripts=[root + path for path in scripts.chat_paths()],
        progress_words=PROGRESS_WORDS,
        change_words=CHANGE_WORDS,
        writing_words="is writing…",
        archived_words=ARCHIVED_WORDS,
        Author=Author,
        MessageState=MessageState,
        Progress=Progress,
    )
    for name in templates.list_templates():
        templates.get_template(name)  # read now: later there may be no file descriptor left for it
    return templates


class Look:
    """Makes answers out of templates. `own` gives the desk's own page; `prefix` stands before every path."""

    def __init__(self, own: Callable[[], Site], *, prefix: str = "") -> None:
        self._own = own
        self.prefix = prefix
        self.css = _shrunk(resources.text("static/style.css"))
        digest = hashlib.sha256(self.css.encode()).digest()
        self.css_path = f"/static/style.{digest.hex()[:16]}.css"
        self._inline_source = _source(self.css)
        self._templates = _templates(prefix, self.css, self.css_path)

    def page(self, template: str, *, status: int = 200, site: Site | None = None, **values: object) -> Response:
        """A page of its own, with the stylesheet inside."""
        site = site or self._own()
        policy = f"{_FIXED_POLICY}style-src {self._inline_source}{_accent_source(site)}; frame-ancestors 'none'"
        return self._response(template, policy, status, site, {"inline": True, **values})

    def chat_page(
        self, template: str, *, status: int = 200, site: Site | None = None, socket_host: str = "", **values: object
    ) -> Response:
        """A page around the conversation's frames; takes the stylesheet from the cache.

        `socket_host`: ours, for the one page whose scripts may run and open a WebSocket to it.
        """
        site = site or self._own()
        policy = f"{_FIXED_POLICY}style-src 'self'{_accent_source(site)}; frame-src 'self'; frame-ancestors 'none'"
        if socket_host:
            # Not every browser takes 'self' for ws: too (CSP 3 §6.7.2.8 is younger than they are).
            policy += f"; script-src 'self'; connect-src 'self' ws://{socket_host}"
        return self._response(template, policy, status, site, values)

    def frame(self, template: str, *, status: int = 200, site: Site | None = None, **values: object) -> Response:
        """The content of one of those frames."""
        site = site or self._own()
        return self._response(template, self.frame_policy(site), status, site, values)

    def frame_policy(self, site: Site, nonce: str = "") -> str:
        """`nonce` allows the streamed styles of a live view."""
        return f"{self._frame_styles(site, nonce)}; frame-ancestors 'self'"

    def embedded(self, template: str, *, site: Site, **values: object) -> Response:
        """What stands in a frame on the site's own pages, and on no other."""
        response = self._response(template, "", 200, site, values)
        response.headers.update(self.embedded_headers(site))
        return response

    def embedded_headers(self, site: Site, nonce: str = "") -> dict[str, str]:
        """By whom the page may be framed."""
        origins = " ".join(site.origins) or "'none'"
        return {
            "content-security-policy": f"{self._frame_styles(site, nonce)}; frame-ancestors {origins}",
            "cross-origin-resource-policy": "cross-origin",
        }

    def _frame_styles(self, site: Site, nonce: str) -> str:
        streamed = f" 'nonce-{nonce}'" if nonce else ""
        return f"{_FIXED_POLICY}style-src 'self'{_accent_source(site)}{streamed}"

    def problem(self, error: VisitorError) -> Response:
        """The page for a request that no form can answer."""
        headline = _HEADLINES.get(error.status, _HEADLINES[400])
        response = self.page("problem.html", status=error.status, headline=headline, error=error)
        return with_retry_after(response, error)

    def proxied(self, onion: str) -> Response:
        """The warning for a visitor who reads us through a proxy that takes them out of Tor."""
        return self.page("proxied.html", status=403, onion=onion.removesuffix(".onion"))

    def render(self, template: str, site: Site | None = None, **values: object) -> str:
        return self._templates.get_template(template).render(self._worn(site or self._own()), **values)

    def standing(self, conversation: Conversation | None) -> str:
        """What a visitor has to know of it before they write: that it was closed, or ended by the desk."""
        if conversation is None or conversation.standing is Standing.OPEN:
            return ""
        return self.render("standing.html", standing=conversation.standing)

    def messages(self, messages: Sequence[Message], *, today: int, site: Site | None = None) -> str:
        """The fragment that pages and streams share."""
        return self.render("messages.html", site, messages=messages, today=today)

    def samples(self, site: Site | None = None) -> str:
        """One message of each author, and a visitor's in each state, for the chat page's script to copy."""
        visitors = [_sample(Author.VISITOR, progress) for progress in Progress]
        others = [_sample(author, Progress.KEPT) for author in (Author.ADMIN, Author.DESK)]
        return self.messages([*visitors, *others], today=0, site=site)

    def go_to(self, place: str) -> Response:
        """303: the browser fetches that path of ours next, so that reloading it posts nothing."""
        return RedirectResponse(self.prefix + place, status_code=303)

    def _worn(self, site: Site) -> dict[str, object]:
        """What every template knows of the site that it wears. `home` is where its conversations begin.

        `language` is that of the site's own words; ours are English.
        """
        ways = self.prefix + (f"/s/{site.name}" if site.name else "")
        return {
            "site": site,
            "desk_name": site.title,
            "greeting": site.greeting,
            "language": site.languages[0] if site.languages else "en",
            "accent": accent.styles(site.accent),
            "ways": ways,
            "home": ways if site.name else ways + "/",
        }

    def _response(self, template: str, policy: str, status: int, site: Site, values: dict[str, object]) -> Response:
        response = Response(self.render(template, site, **values), status, media_type="text/html")
        response.headers["content-security-policy"] = policy
        return response


def _sample(author: Author, progress: Progress) -> Message:
    return Message(b"", 0, author, "", "", 0, progress)


def _source(css: str) -> str:
    """How a policy allows this very text of a style element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()}'"


def _accent_source(site: Site) -> str:
    return f" {_source(accent.styles(site.accent))}" if site.accent else ""


def with_retry_after(response: Response, error: VisitorError) -> Response:
    """Tell programs too when to try again."""
    if error.retry_after_seconds is not None:
        response.headers["retry-after"] = str(max(1, round(error.retry_after_seconds)))
    return response
