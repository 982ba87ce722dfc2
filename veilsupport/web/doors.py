"""How visitors come from other people's pages, besides by a link: a form there, and what it leads to.

    their form ── POST /s/NAME/start ──▶ from an origin that the site lists: the message is kept at once
                                     └─▶ from anywhere else, or in a rush: our own page, the text in its box, unsent
    kept ──▶ a page of ours that goes on by itself ──▶ /s/NAME/arrived ──▶ /chat

A form on someone else's page cannot have a token of ours, so this is what stands against abuse of it: an origin that
the operator listed is trusted with a first message, and no other is; the browser says the origin, and pages cannot
change it; starting is limited as everywhere; and no session is read here or replaced. For that the answer
gives the new session under another name and for one page only (`forms.hand_over`). That page is asked for by a page
of ours, so the browser shows it both cookies; if there is an earlier conversation, the visitor chooses.

A double click is two requests without anything in common that others could not have as well: two people may share a
circuit and a prepared text. So it starts two conversations. That is a nuisance; taking two people for one is not.
"""

from __future__ import annotations

import secrets

from starlette.responses import Response

from veilsupport.model import Private, Session
from veilsupport.web.forms import hand_over, handed_token, take_over
from veilsupport.web.pages import Pages, Visit


def show_text(pages: Pages, visit: Visit) -> Response:
    """The site's page with what was written elsewhere, to be looked over and sent from here."""
    return pages.desk_page(visit, brought=bool(visit.text)) if visit.form else pages.look.go_to(f"/s/{visit.site.name}")


async def start_from_elsewhere(pages: Pages, visit: Visit) -> Response:
    if visit.request.headers.get("origin") not in visit.site.origins:
        return show_text(pages, visit)
    if pages.pace.is_pressed:
        return show_text(pages, visit)  # Only a page of ours can ask the puzzle.
    pages.begin(visit)
    signed = await pages.desk.visitor_starts(
        visit.text, seed=secrets.token_bytes(32), now=visit.now, site=visit.site.name
    )
    return hand_over_to_window(pages, visit, signed.token)


def hand_over_to_window(pages: Pages, visit: Visit, token: Private) -> Response:
    """A page of ours that goes on to /arrived by itself; a redirect would still count as the other site's doing."""
    return hand_over(pages.look.page("arriving.html", site=visit.site), token, path=_arrived_path(pages, visit))


def show_arrived(pages: Pages, visit: Visit) -> Response:
    """On to the conversation; or the question which, when this browser has another one."""
    handed = _handed(pages, visit)
    if handed is None:
        return pages.look.go_to("/chat" if visit.session is not None else f"/s/{visit.site.name}")
    token, session = handed
    if visit.session is None or visit.session.visitor == session.visitor:
        return _enter(pages, visit, token)
    code = session.pending_code
    unkept = visit.session.pending_code is not None
    return pages.look.page("arrived.html", code=code.reveal() if code else "", unkept=unkept, **pages.form(visit))


async def arrive(pages: Pages, visit: Visit) -> Response:
    handed = _handed(pages, visit)
    if handed is not None and "new" in visit.form:
        return _enter(pages, visit, handed[0])
    return take_over(pages.look.go_to("/chat"), path=_arrived_path(pages, visit))


def _enter(pages: Pages, visit: Visit, token: Private) -> Response:
    return take_over(pages.sign_in(pages.look.go_to("/chat"), token), path=_arrived_path(pages, visit))


def _handed(pages: Pages, visit: Visit) -> tuple[Private, Session] | None:
    token = handed_token(visit.request)
    session = pages.desk.open_session(token) if token is not None else None
    return (token, session) if token is not None and session is not None else None


def _arrived_path(pages: Pages, visit: Visit) -> str:
    return f"{pages.look.prefix}/s/{visit.site.name}/arrived"
