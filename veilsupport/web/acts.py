"""What the end points of the REST API do; each docstring is the summary in its document.

Knows the desk, and neither HTTP nor its paths: a call comes checked, and errors leave as `VisitorError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from veilsupport.desk import Desk, SignedIn
from veilsupport.errors import VisitorError
from veilsupport.model import Private, Session, Site
from veilsupport.web import frames, shapes
from veilsupport.web.reading import Reading
from veilsupport.web.shapes import Shape
from veilsupport.web.standing import attendance_of, standing_of


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as far as it is checked. `site`: whose page asks; "" is the desk's own, and programs'."""

    now: float
    site: str
    session: Session | None
    id: str = ""  # what stood in the path

    @property
    def signed_in(self) -> Session:
        """The session of an end point that needs one."""
        assert self.session is not None
        return self.session


class Acts:
    """What the end points do. Each takes the call and what was asked, and gives the answer's shape or None."""

    def __init__(self, desk: Desk, sites: Callable[[], Mapping[str, Site]]) -> None:
        self._desk = desk
        self._sites = sites

    # ---- coming in and going -------------------------------------------------------------------------------

    async def register(self, call: Call, asked: shapes.Credentials) -> Shape:
        """Make an account with e-mail address and password."""
        signed = await self._desk.visitor_registers(Private(asked.email), Private(asked.password), now=call.now)
        return _signed_in(signed, asked.email)

    async def log_in(self, call: Call, asked: shapes.Credentials) -> Shape:
        """Sign in with e-mail address and password."""
        signed = await self._desk.visitor_logs_in(Private(asked.email), Private(asked.password), now=call.now)
        return _signed_in(signed, asked.email)

    async def arrive(self, call: Call, _: shapes.Arrival) -> Shape:
        """Start without saying who you are. The answer holds the return code, which is told this once."""
        signed, code = await self._desk.visitor_arrives(now=call.now)
        user = shapes.User(id=signed.visitor.hex(), email=None)
        return shapes.Started(user=user, token=signed.token.reveal(), code=code.reveal())

    async def come_back(self, call: Call, asked: shapes.ReturnCode) -> Shape:
        """Come back with a return code."""
        return _signed_in(await self._desk.visitor_returns(Private(asked.code), now=call.now))

    async def refresh(self, call: Call, _: shapes.Nothing) -> Shape:
        """A new token in the place of this one, which ends at once, with its sockets."""
        return _signed_in(await self._desk.visitor_renews(call.signed_in, now=call.now))

    async def log_out(self, call: Call, _: shapes.Nothing) -> None:
        """End this session. The conversation stays."""
        await self._desk.visitor_leaves(call.signed_in)

    async def sessions(self, call: Call, _: shapes.Nothing) -> Shape:
        """All your sessions."""
        own = call.signed_in.id
        found = self._desk.sessions(call.signed_in)
        lines = [shapes.SessionLine(id=it.id, since=shapes.at(it.made_minute), current=it.id == own) for it in found]
        return shapes.SessionList(sessions=lines)

    async def end_session(self, call: Call, _: shapes.Nothing) -> None:
        """End one of your sessions, with its sockets."""
        await self._desk.visitor_ends_session(call.signed_in, call.id)

    async def change_password(self, call: Call, asked: shapes.PasswordChange) -> None:
        """A new password. All your other sessions end."""
        email, old, new = Private(asked.email), Private(asked.password), Private(asked.new_password)
        try:
            await self._desk.visitor_changes_password(call.signed_in, email, old, new)
        except VisitorError as error:
            if error.code == "weak_password":
                error.field = "new_password"
            raise

    async def burn(self, call: Call, _: shapes.Nothing) -> None:
        """Burn: erase everything here, and ask the admins' apps to erase it there. Cannot be undone."""
        await self._desk.visitor_burns(call.signed_in, now=call.now)

    # ---- the conversation ----------------------------------------------------------------------------------

    async def send(self, call: Call, asked: shapes.Outgoing) -> Shape:
        """Write to the desk. 200 means that it is on our disk, and due to the admins."""
        message = await self._desk.visitor_says(
            call.signed_in, asked.message, once=shapes.once_of(asked.id), now=call.now, site=call.site
        )
        return shapes.Kept(message=shapes.Message(**shapes.fields_of(message)), id=asked.id)

    async def history(self, call: Call, asked: shapes.HistoryQuery) -> Shape:
        """The conversation, page by page."""
        reading = Reading(self._desk, call.signed_in)
        if asked.after is not None:
            found = reading.history_after(asked.after, limit=asked.limit + 1)
            found = [message for message in found if asked.before is None or message.seq < asked.before]
            shown = found[: asked.limit]
        else:
            found = reading.history(before=asked.before, limit=asked.limit + 1)
            shown = found[-asked.limit :]
        messages = [shapes.Message(**shapes.fields_of(message)) for message in shown]
        return shapes.History(messages=messages, more=len(found) > len(shown))

    async def status(self, call: Call, _: shapes.Nothing) -> Shape:
        """Whether the desk is open, and how far your messages have come."""
        return shapes.Status(**standing_of(self._desk, call.signed_in, call.site, now=call.now))

    async def read(self, call: Call, asked: shapes.ReadMark) -> None:
        """You have looked at everything up to there; your other devices are told."""
        await self._desk.visitor_reads(call.signed_in, asked.seq)

    async def upgrade(self, _: Call, __: frames.SocketQuery) -> None:
        """The WebSocket. Whoever comes without asking for one is told so."""
        raise VisitorError("A WebSocket is spoken here.", status=426, code="upgrade")

    async def site(self, call: Call, asked: shapes.SiteQuery) -> Shape:
        """How the desk presents itself on a site."""
        sites = self._sites()
        name = asked.name if asked.name is not None else call.site
        if name not in sites:
            raise VisitorError("There is no such site.", status=404, code="not_found", field="name")
        site, own = sites[name], sites[""]
        return shapes.SiteAnswer(
            name=site.name,
            title=site.title,
            greeting=site.greeting or own.greeting,
            accent=site.accent,
            languages=list(site.languages),
            **attendance_of(self._desk, site.name, now=call.now),
            answer_minutes=self._desk.answer_minutes(now=call.now),
        )


def _signed_in(signed: SignedIn, email: str | None = None) -> shapes.SignedIn:
    user = shapes.User(id=signed.visitor.hex(), email=email)
    return shapes.SignedIn(user=user, token=signed.token.reveal())
