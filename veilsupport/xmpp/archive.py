"""An archive on the server (XEP-0313), our account's own or a room's, page by page.

slixmpp's `iterate` takes every error and time-out for a clean end; here each is what it is: an answer, or Unavailable.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from veilsupport.errors import NotFound, Unavailable
from veilsupport.xmpp.line import Declined, Line

_MAM: Final = "{urn:xmpp:mam:2}"
_RSM: Final = "{http://jabber.org/protocol/rsm}"
_FORM: Final = "{jabber:x:data}"
_MESSAGE: Final = "{urn:xmpp:forward:0}forwarded/{jabber:client}message"
_NONE_HERE: Final = {"feature-not-implemented", "service-unavailable"}
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Archived:
    """One stanza of the archive; `id` is the archive's own."""

    id: str
    message: Element = field(repr=False)


class Archive:
    """`of`: a room; "" is our own account. `exists` is None until the first answer, then whether there is one."""

    def __init__(self, line: Line, of: str = "") -> None:
        self._line = line
        self._of = of
        self.exists: bool | None = None

    async def newest(self) -> str:
        """The id of the last stanza; "" when there is none."""
        page, _ = await self._ask(_query(limit=1, before=""))
        return page[-1].id if page else ""

    async def pages(self, *, after: str = "", since: float | None = None) -> AsyncIterator[list[Archived]]:
        """All stanzas behind that id, or from that instant (Unix seconds) on, oldest first; nothing when there is no
        archive. NotFound: the id is unknown (any more). Unavailable: the server does not answer properly."""
        while True:
            page, fin = await self._ask(_query(limit=_PAGE, after=after, since=since))
            yield page
            last = fin.findtext(f"{_RSM}set/{_RSM}last") if fin is not None else None
            if fin is None or fin.get("complete") == "true" or not last or last == after:
                return
            after = last

    async def _ask(self, query: Element) -> tuple[list[Archived], Element | None]:
        answer = await self._line.ask_archive(query, query.get("queryid", ""), of=self._of)
        if isinstance(answer, Declined):
            return self._declined(answer)
        self.exists = True
        results, last_word = answer
        found = [(result.get("id", ""), result.find(_MESSAGE)) for result in results]
        return [Archived(id_, message) for id_, message in found if message is not None], last_word.find(f"{_MAM}fin")

    def _declined(self, answer: Declined) -> tuple[list[Archived], None]:
        if answer.condition == "item-not-found":
            raise NotFound("The archive knows no such id.")
        if answer.condition not in _NONE_HERE:
            raise Unavailable("the server does not show its archive")
        self.exists = False
        return [], None


def _query(*, limit: int, after: str = "", before: str | None = None, since: float | None = None) -> Element:
    query = Element(f"{_MAM}query", queryid=secrets.token_hex(8))
    if since is not None:
        form = SubElement(query, f"{_FORM}x", type="submit")
        start = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for name, value in (("FORM_TYPE", "urn:xmpp:mam:2"), ("start", start)):
            SubElement(SubElement(form, f"{_FORM}field", var=name), f"{_FORM}value").text = value
    window = SubElement(query, f"{_RSM}set")
    SubElement(window, f"{_RSM}max").text = str(limit)
    if after:
        SubElement(window, f"{_RSM}after").text = after
    if before is not None:
        SubElement(window, f"{_RSM}before").text = before
    return query
