"""The WebSocket below `socket`: uvicorn's sans-I/O protocol, with the ends and bounds that it does not have.

- A handshake that is no WebSocket's gets an answer, and no answer tells our clock.
- A frame that is too large, not UTF-8, or one of a flood: the close frame says why. It is followed by our end of the
  stream only; were the connection closed at once, the kernel would answer what is still coming with a reset, and the
  client might lose our close frame by it (RFC 6455 §7.1.1).
- Pings with jitter; who does not answer, or does not read what we write, is cut off.
- Whoever sends to a connection that has just ended is told that the client is gone. uvicorn calls some of these cases
  an error of the application's, and ours would end the process.

Knows no frame's meaning. uvicorn 0.54, websockets 17; the tests speak to it byte by byte.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from veilsupport.inbox import Inbox
from veilsupport.web.frames import FRAME_MAX_BYTES, Close

PING_SECONDS: Final = 40.0  # with ten thousand open, a quicker one takes more than 2 % of a core
PONG_SECONDS: Final = 30.0
FRAMES_PER_SECOND: Final = 10
FRAMES_BURST: Final = 100
DRAIN_SECONDS: Final = 60.0
_PING_SPREAD: Final = 0.1
_LAST_SECONDS: Final = 2.0  # For our close frame to arrive.
_AHEAD_MESSAGES: Final = 2  # taken from the system before the first of them is dealt with
_SLICE_BYTES: Final = 4096  # Parsed between two looks at how many frames that were: bounds what a flood costs.


class _Framing(ServerProtocol):
    """websockets' state machine; counts frames and keeps our clock to itself."""

    frames_seen = 0

    def events_received(self) -> list[Any]:
        events = super().events_received()
        self.frames_seen += len(events)
        return events

    def send_response(self, response: Response) -> None:
        response.headers.pop("Date", None)
        super().send_response(response)


class SocketProtocol(WebSocketsSansIOProtocol):
    """One connection, from its handshake on."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.queue: Inbox[Any] = Inbox()  # type: ignore[assignment]  # in place of an asyncio.Queue
        self.conn: _Framing = _Framing(max_size=FRAME_MAX_BYTES, logger=self.logger)
        self._allowance = float(FRAMES_BURST)
        self._counted_at = self.loop.time()
        self._drain_timer: asyncio.TimerHandle | None = None
        self._ended = False

    # ---- in ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _SLICE_BYTES):
            if self._ended:
                return  # Read, so that no reset is sent for it, and dropped.
            self.conn.receive_data(data[start : start + _SLICE_BYTES])
            if self.conn.parser_exc is not None:
                self.handle_parser_exception()
            else:
                self.handle_events()
                self._count_frames()
        if not self.handshake_initiated:
            self._refuse_handshake()

    def _count_frames(self) -> None:
        now = self.loop.time()
        gained = (now - self._counted_at) * FRAMES_PER_SECOND
        self._allowance = min(FRAMES_BURST, self._allowance + gained) - self.conn.frames_seen
        self._counted_at = now
        self.conn.frames_seen = 0
        if self._allowance < 0 and not self._ended:
            self.conn.fail(Close.TOO_FAST, Close.TOO_FAST.name.lower())
            self.handle_parser_exception()

    def _refuse_handshake(self) -> None:
        """uvicorn hands over one whole request; websockets has refused it, or could not read it."""
        refusal = b"".join(self.conn.data_to_send())
        self.transport.write(refusal or b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self._ended = True
        self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        self.conn.frames_seen = 0  # The request is an event too, but no frame.
        del self.request  # The scope has what is needed of it.

    def send_receive_event_to_app(self) -> None:
        """uvicorn would stop reading at each message, and go on when it is taken: two system calls every time."""
        self.read_paused = True  # It is paused as far as uvicorn knows, so that it resumes once all are taken.
        try:
            super().send_receive_event_to_app()
        except InvalidState:  # It is not UTF-8, and the client's close frame, right behind it, is answered already.
            self.handle_parser_exception()
        if self.queue.qsize() > _AHEAD_MESSAGES and not self.close_sent:  # Then all that comes is read, and dropped.
            self.transport.pause_reading()

    def handle_ping(self) -> None:
        if not self._ended:  # Else it came right behind what ended this, and our last words are out.
            super().handle_ping()

    def handle_parser_exception(self) -> None:
        """The connection fails; `conn` knows why, and has the close frame ready. Also after an ordinary close."""
        self._ended = True
        self.close_sent = True
        self.stop_keepalive()
        closed = self.conn.close_sent
        code, reason = (closed.code, closed.reason) if closed else (Close.NO_PONG, "")
        self.queue.put_nowait({"type": "websocket.disconnect", "code": int(code), "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self.transport.resume_reading()
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(_LAST_SECONDS, self.transport.abort)

    # ---- out -----------------------------------------------------------------------------------------------

    async def send(self, message: Any) -> None:
        while not self.writable.is_set():  # It may be full again when it is our turn.
            await self.writable.wait()
        # From here to the end nothing waits, so that what is true here stays true.
        if self.disconnected or self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        await super().send(message)

    def schedule_ping(self) -> None:
        spread = random.uniform(-_PING_SPREAD, _PING_SPREAD)  # noqa: S311 - no secret: not all at once
        self.ping_timer = self.loop.call_later(PING_SECONDS * (1 + spread), self.send_keepalive_ping)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(_LAST_SECONDS, self.transport.abort)  # Nobody is there to take what is not sent yet.

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._drain_timer is None:
            self._drain_timer = self.loop.call_later(DRAIN_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_drain_timer()

    # ---- the end -------------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        try:
            super().shutdown()
        except InvalidState:  # The client's close frame came just before.
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_drain_timer()
        super().connection_lost(exc)
        self.conn.parser.close()  # They refer to each other, and would stay until somebody looks for garbage.

    def _stop_drain_timer(self) -> None:
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
