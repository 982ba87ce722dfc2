"""Whether another VeilSupport answers at our onion address, asked through Tor while ours is not published.

Two that publish one address overwrite each other's descriptor: visitors would land now here, now there. Knows tor and
the address; not what is done about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import Final

from veilsupport.errors import Unavailable
from veilsupport.socks import SocksProxy, dial
from veilsupport.tor import TorDaemon, TorPhase, TorSettings, TorState

_CONNECT_SECONDS: Final = 600.0  # for tor to connect at all: bridges and bad networks take long
_DIAL_SECONDS: Final = 30.0  # as long as the self-check gives it
_TRIES: Final = 3  # with circuits of their own: one that fails says nothing of the other side
_PAUSE_SECONDS: Final = 1.0
_ONION_PORT: Final = 80
_REFUSED: Final = "the other side refused the connection"  # socks.py: only a service itself can


async def answers_elsewhere(
    settings: TorSettings, address: str, *, on_change: Callable[[TorState], None] = lambda state: None
) -> bool:
    """Whether somebody is connected to when the address is dialled. `settings` are those of a client only.

    When the service is for authorised clients, `settings.access` has to be one of them. What has just been stopped
    does not answer, although its descriptor is there for hours. Unavailable: that cannot be known. SetupError: tor
    cannot be started.
    """
    assert settings.onion is None, "it would find itself"
    stop, connected = asyncio.Event(), asyncio.Event()

    def changed(state: TorState) -> None:
        if state.phase is TorPhase.CONNECTED:
            connected.set()
        on_change(state)

    tor = TorDaemon(settings, on_change=changed)
    running = asyncio.ensure_future(tor.run(stop))
    asking = asyncio.ensure_future(_ask(tor.socks, address, connected))
    try:
        await asyncio.wait((running, asking), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        if not asking.done():
            asking.cancel()
        with contextlib.suppress(asyncio.CancelledError, Unavailable):
            await asking
        await running
    return asking.result()


async def _ask(socks: SocksProxy, address: str, connected: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await connected.wait()
    except TimeoutError:
        raise Unavailable("Tor did not connect") from None
    for number in range(_TRIES):
        if number:
            await asyncio.sleep(_PAUSE_SECONDS)
        if await _is_there(socks, address):
            return True
    return False


async def _is_there(socks: SocksProxy, address: str) -> bool:
    try:
        connection = await dial(
            socks,
            address,
            _ONION_PORT,
            credentials=("twin", secrets.token_hex(8)),
            timeout_seconds=_DIAL_SECONDS,
        )
    except Unavailable as error:
        if not error.temporary:  # It wants a client key that we have not got: it may have been stopped, or not.
            raise
        return error.message == _REFUSED
    connection.close()
    return True
