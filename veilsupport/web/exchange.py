"""One WebSocket's frames over ASGI: told and heard as our own types. Knows no frame's meaning, and not the desk."""

from __future__ import annotations

from starlette.types import Receive, Send

from veilsupport.web import shapes
from veilsupport.web.frames import Close


class End(Exception):
    """How a socket ends before it is signed in, or from its reading side."""

    def __init__(self, code: Close) -> None:
        super().__init__()
        self.code = code


class Wire:
    """One socket's frames. Once the other side is gone, telling does nothing."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.gone = False

    async def accept(self) -> None:
        await self._receive()  # websocket.connect
        await self._tell({"type": "websocket.accept"})

    async def hear(self) -> str:
        """The next frame's text. Raises End: it was binary, or there is nobody any more."""
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            self.gone = True
            raise End(Close.LEFT)
        text = event.get("text")
        if text is None:
            raise End(Close.BINARY)
        return str(text)

    async def tell(self, frame: shapes.Shape) -> None:
        await self._tell({"type": "websocket.send", "text": frame.model_dump_json()})

    async def close(self, code: Close) -> None:
        await self._tell({"type": "websocket.close", "code": int(code), "reason": code.name.lower()})
        self.gone = True

    async def _tell(self, event: dict[str, object]) -> None:
        if self.gone:
            return
        try:
            await self._send(event)
        except OSError:  # The ASGI specification's way to say that the other side has gone.
            self.gone = True
