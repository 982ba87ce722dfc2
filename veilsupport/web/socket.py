"""The WebSocket of the API, for programs and for pages with scripts. The protocol:

One JSON object in each text frame, at most 64 KiB. No subprotocol, no compression: it would tell lengths. A
handshake from a page that is neither ours nor of a listed origin is refused; programs send no Origin.

Signing in. The first frame, within fifteen seconds, is

    {"type": "auth", "token": "…", "after": 17}

and is answered by `ready`. The desk's own pages say `"cookie": true` in place of the token: their script cannot
read the cookie, and no other origin may use it. For clients that cannot send a first frame there is
`/api/v1/ws?token=…&after=17`. Better not: an address ends up in histories, in the logs of whatever stands in
front of us, and in screenshots, and whoever has the token reads the conversation.

No gap and no repeat. `seq` counts the messages of a conversation. With `after` everything newer comes first, and then
whatever happens; without it only what happens from now on. `message` and `ack` come strictly in the order of
`seq`, so the greatest one that you have seen is the `after` of your next connection. All your devices see the same.
A message can be changed later, which does not give it another `seq`: `changed` is about one that you have. With
`after` it also comes, right behind `ready`, for each changed one among the last fifty up to there, because you may have
been away when it happened; whether you had seen it is not known here. What is older stands in its new form in the
history (REST), and only there.

From us:

    ready       who you are, the last message, your read mark, how far your messages have come, the desk
    message     a message of either side, also yours from another device or over REST
    changed     a message that you have was corrected or retracted, with all its fields as they are now. Put it in the
                place of what you show, and show nothing of that any more
    ack         yours from this very socket, in the place of `message`: it is on our disk, and due to the
                admins; `content` is what was kept. An ack for a `seq` that came already: it was kept before
    state       a message of yours has come further, as far as the desk shows that; states only grow, whatever order
                they come in
    typing      an admin is writing at this moment: show it for ten seconds, or until a message
    read        somebody (you) has looked at everything up to there, on one of your devices
    desk        the admins can or cannot be reached, or now somebody is there for you, or nobody; or the conversation
                was closed, opened or blocked. Never without such a difference: its timing would tell of one admin
    error       about one frame of yours, by its id; nothing of it was kept. The socket stays open
    pong        the answer to `ping`

From you:

    message     {"type": "message", "content": "…", "id": "c1"}. The id is yours to make; what was not acked when
                the connection broke is sent again with the same id, and is kept once. Keep at most ten unacked
    read        {"type": "read", "seq": 17}
    typing      {"type": "typing"}: you are writing at this moment; the admins see it where it is plain who is meant
    ping        for browsers, which cannot send a ping of the WebSocket's own

Limits: messages as over REST; frames of any kind 100 at once and ten a second, beyond which the socket closes;
ten sockets for one session, of which the oldest gives way. We ping every 40 seconds, and give up after 30 more.
A reader so slow that 256 events wait is closed, and resumes. Each end has its close code (`frames.CLOSES`).

Knows ASGI and the desk. What happens below (sizes, pings, half-open connections, floods) is in `wire`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from veilsupport.desk import Desk
from veilsupport.errors import StoreError, Unavailable, VisitorError
from veilsupport.limits import Act
from veilsupport.model import (
    AttendanceChanged,
    Changed,
    Ended,
    Event,
    Message,
    Progressed,
    ReadUpTo,
    Said,
    Session,
    SignedOut,
    StandingChanged,
    Typing,
)
from veilsupport.web import api, frames, refusals, shapes
from veilsupport.web.exchange import End, Wire
from veilsupport.web.forms import COOKIE, plausible_token
from veilsupport.web.frames import Close
from veilsupport.web.guard import TEMPLATE
from veilsupport.web.origins import Origins, is_own
from veilsupport.web.pace import Pace
from veilsupport.web.reading import Reading
from veilsupport.web.shim import circuit_of
from veilsupport.web.standing import desk_of, standing_of
from veilsupport.web.told import Told

AUTH_SECONDS: Final = 15.0
SOCKETS_PER_SESSION: Final = 10
SOCKETS_MAX: Final = 5000  # of all sessions: 24 KiB each (facts/speed.md), 120 MB
WAITING_MAX: Final = 512  # sockets that have not signed in yet
WAITING_PER_CIRCUIT: Final = 8
_PAGE: Final = 50


class Sockets:
    """The ASGI end point, and all that is open there."""

    def __init__(self, *, desk: Desk, pace: Pace, origins: Origins, clock: Callable[[], float]) -> None:
        self.desk = desk
        self.pace = pace
        self.clock = clock
        self._origins = origins
        self._of: defaultdict[bytes, list[_Talk]] = defaultdict(list)
        self._open = 0
        self._waiting: dict[asyncio.Timeout, str | None] = {}  # the circuit; who has waited longest comes first
        self._closing = False

    def __len__(self) -> int:
        return self._open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """VisitorError (404): another path; the handshake is refused."""
        if scope["path"] != api.SOCKET_PATH:
            raise VisitorError("There is no such end point.", status=404, code="not_found")
        scope[TEMPLATE] = api.SOCKET_PATH
        wire = Wire(receive, send)
        await wire.accept()
        try:
            talk = await self._entered(scope, wire)
        except End as end:
            await wire.close(end.code)
            return
        try:
            await talk.run()
        finally:
            talk.listener.close()
            self._forget(talk)

    def end_all(self) -> None:
        """The server stops: every socket is told so, and none opens again."""
        self._closing = True
        for talk in [talk for talks in self._of.values() for talk in talks]:
            talk.end(Close.GOING_AWAY)

    async def _entered(self, scope: Scope, wire: Wire) -> _Talk:
        """The signed-in socket in its place. Raises End."""
        try:
            asked = await self._asked(scope, wire)
            if self._closing:
                raise End(Close.GOING_AWAY)
            session = self._session(scope, asked)
            # No waiting from here to the listener: an end of this session is either seen here or told there.
            if len(self) >= SOCKETS_MAX and session.token_hash not in self._of:
                raise End(Close.UNAVAILABLE)
            self.pace.take(Act.STREAM, scope, session=session, now=self.clock())
        except VisitorError as error:
            self.pace.refused(scope, now=self.clock())
            await wire.tell(refusals.frame(error))
            raise End(Close.TOO_FAST if error.status == 429 else Close.BAD_AUTH) from None
        talk = _Talk(self, session, wire, scope, after=asked.after, site=self._origins.site_of(scope) or "")
        siblings = self._of[session.token_hash]
        siblings.append(talk)
        self._open += 1
        for oldest in siblings[:-SOCKETS_PER_SESSION]:
            oldest.end(Close.REPLACED)
        return talk

    async def _asked(self, scope: Scope, wire: Wire) -> frames.AuthFrame:
        """What the address says, else the first frame. VisitorError: it does not fit. Raises End: none came.

        When too many wait, the one that has waited longest gives way: a browser says who it is within a round trip, and
        who only holds places must not shut it out.
        """
        query = api.query_of(scope)
        given = refusals.checked(lambda: frames.SocketQuery.model_validate(query))
        if given.token is not None:
            return frames.AuthFrame(type="auth", token=given.token, after=given.after)
        circuit = circuit_of(scope)
        if circuit and list(self._waiting.values()).count(circuit) >= WAITING_PER_CIRCUIT:
            raise End(Close.UNAVAILABLE)
        if len(self._waiting) >= WAITING_MAX:
            longest = next(iter(self._waiting))
            del self._waiting[longest]
            longest.reschedule(asyncio.get_running_loop().time())
        limit = asyncio.timeout(AUTH_SECONDS)
        try:
            async with limit:
                self._waiting[limit] = circuit
                text = await wire.hear()
        except TimeoutError:
            raise End(Close.NO_AUTH) from None
        finally:
            self._waiting.pop(limit, None)
        return refusals.checked(lambda: frames.AuthFrame.model_validate_json(text))

    def _session(self, scope: Scope, asked: frames.AuthFrame) -> Session:
        """VisitorError: neither token nor cookie, or both. Raises End: it opens no session."""
        if (asked.token is None) == (asked.cookie is None):
            raise VisitorError("Give either a token, or a cookie from our own page.", field="token")
        value = asked.token
        if value is None:
            value = HTTPConnection(scope).cookies.get(COOKIE, "") if is_own(scope) else ""
        token = plausible_token(value)
        session = self.desk.open_session(token) if token is not None else None
        if session is None:
            raise End(Close.SIGNED_OUT)
        return session

    def _forget(self, talk: _Talk) -> None:
        siblings = self._of[talk.session.token_hash]
        siblings.remove(talk)
        self._open -= 1
        if not siblings:
            del self._of[talk.session.token_hash]


class _Talk:
    """One signed-in socket: what it has told, and what it does with what it hears."""

    def __init__(
        self, sockets: Sockets, session: Session, wire: Wire, scope: Scope, *, after: int | None, site: str
    ) -> None:
        self.session = session
        self._desk = sockets.desk
        self._reading = Reading(sockets.desk, session)
        self._pace = sockets.pace
        self._clock = sockets.clock
        self._wire = wire
        self._scope = scope
        self._site = site
        self._over: Close | None = None
        self._told = Told()
        self._own: dict[int, str | None] = {}  # seq of a message from here → its client id, until it is acked
        conversation = self._desk.conversation(session)
        last = conversation.last_seq if conversation else 0
        self._resumes_after = min(after or 0, last)
        self._last_seq = last if after is None else self._resumes_after
        self.listener = sockets.desk.listen(session)  # last: who fails before leaves none behind

    def end(self, code: Close) -> None:
        """Let it close. The first reason stands; what has not been told yet comes with the next connection."""
        if self._over is None:
            self._over = code
            self.listener.offer(Ended(burned=False))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            await self._tell_ready()
            tasks.create_task(self._hear())
            await self._follow()
            # Also ends _hear, which is never cancelled: it may be half-way through keeping a message.
            await self._wire.close(self._over or Close.LEFT)

    # ---- out -----------------------------------------------------------------------------------------------

    async def _tell_ready(self) -> None:
        user = shapes.User(id=self.session.visitor.id.hex(), email=None)
        standing = standing_of(self._desk, self.session, self._site, now=self._clock())
        self._told.desk(standing["desk"].model_dump())
        self._told.states(self._reading.progress())
        await self._wire.tell(frames.ReadyFrame(user=user, **standing))

    async def _follow(self) -> None:
        """What is missing, and then what happens, until an end. Subscribing came before: nothing falls between."""
        for message in self._changed_before():
            await self._change(message)
        while self._over is None and (missing := self._newer(_PAGE)):
            for message in missing:
                await self._show(message)
        while self._over is None and not self._wire.gone:
            event = await self.listener.next()
            if event is not None:
                await self._pass_on(event)

    def _newer(self, limit: int) -> list[Message]:
        return self._reading.history_after(self._last_seq, limit=limit)

    def _changed_before(self) -> list[Message]:
        """Of what the client has, the newest fifty, those that were changed, maybe while it was away."""
        if not self._resumes_after:
            return []
        return self._reading.changed(before=self._resumes_after + 1, limit=_PAGE)

    async def _pass_on(self, event: Event) -> None:
        match event:
            case Changed(message) if message.seq <= self._last_seq:
                await self._change(message)
            case Said(message) | Changed(message):
                # Events come in order; were it otherwise, what lies between would still not be left out.
                gap = message.seq - self._last_seq - 1
                for each in [*(self._newer(gap) if gap > 0 else []), message]:
                    await self._show(each)
                if message.seq == 1:
                    await self._tell_desk()  # It may have begun at another site than this socket's.
            case Progressed(seq, progress):
                shown = self._reading.shown(progress)
                if self._told.state(seq, progress, shown=shown):
                    await self._wire.tell(frames.StateFrame(**shapes.state_of(seq, shown)))
            case StandingChanged() | AttendanceChanged():
                await self._tell_desk()
            case ReadUpTo(seq):
                await self._wire.tell(frames.ReadFrame(seq=seq))
            case Typing(name):
                await self._wire.tell(frames.TypingFrame(name=name))
            case SignedOut():
                self._over = self._over or Close.SIGNED_OUT
            case Ended(burned):
                self._over = self._over or (Close.BURNED if burned else Close.TOO_SLOW)

    async def _tell_desk(self) -> None:
        state = desk_of(self._desk, self.session, self._site, now=self._clock())
        if self._told.desk(state):
            await self._wire.tell(frames.DeskFrame(**state))

    async def _change(self, message: Message) -> None:
        if self._told.message(message):
            await self._wire.tell(frames.ChangedFrame(**shapes.fields_of(message)))

    async def _show(self, message: Message) -> None:
        if message.seq <= self._last_seq:
            return
        self._last_seq = message.seq
        self._told.message(message)
        fields = shapes.fields_of(message)
        if message.seq in self._own:
            await self._wire.tell(frames.AckFrame(id=self._own.pop(message.seq), **fields))
        else:
            await self._wire.tell(frames.MessageFrame(**fields))

    # ---- in ------------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        try:
            while True:
                text = await self._wire.hear()
                if self._over is None:  # What comes after an end is neither taken nor acked.
                    await self._take(text)
        except End as end:
            self.end(end.code)

    async def _take(self, text: str) -> None:
        id = None
        try:
            frame = refusals.checked(lambda: frames.HEARD.validate_json(text))
            match frame:
                case frames.SendFrame():
                    id = frame.id
                    await self._keep(frame)
                case frames.ReadFrame():
                    await self._desk.visitor_reads(self.session, frame.seq)
                case frames.WritingFrame():
                    self._desk.visitor_types(self.session)
                case frames.PingFrame():
                    await self._wire.tell(frames.PongFrame())
        except VisitorError as error:
            await self._wire.tell(refusals.frame(error, id=id or frames.id_in(text)))
        except (StoreError, Unavailable):
            await self._wire.tell(refusals.frame(refusals.unavailable(), id=id))

    async def _keep(self, frame: frames.SendFrame) -> None:
        """Keep the message; `_show` acks it when its turn comes, or it is acked here when that has passed."""
        now = self._clock()
        self._pace.send(self._scope, self.session, now=now)
        message = await self._desk.visitor_says(
            self.session, frame.content, once=shapes.once_of(frame.id), now=now, site=self._site
        )
        if message.seq <= self._last_seq:
            await self._wire.tell(frames.AckFrame(id=frame.id, **shapes.fields_of(message)))
            return
        # The desk told of it without a pause before it came back to us: `_follow` has not seen that event yet.
        self._own[message.seq] = frame.id
        if not self.listener.has_last(Said(message)):  # It was kept before, and maybe told before we listened.
            self.listener.offer(Said(message))
