"""The ceiling: uvicorn and a bare starlette application, which says `hello` and gives back whatever it hears."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.bench.peers import running


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


if __name__ == "__main__":
    running.serve(Starlette(routes=[Route("/hello", hello), WebSocketRoute("/echo", echo)]), running.told())
