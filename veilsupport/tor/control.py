"""tor's control port. The only importer of stem, whose threads are kept at arm's length from the loop.

Every call of stem runs in a thread with a time-out. stem's listeners run on threads of stem's own: they
translate the event, hand it over with `call_soon_threadsafe`, and never call stem (that would deadlock).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import stem
import stem.connection
import stem.control
import stem.response.events
from stem.control import EventType

from veilsupport.errors import Unavailable
from veilsupport.tor.onion import Access
from veilsupport.tor.state import (
    Bootstrap,
    ClockSkew,
    ControlLost,
    DescriptorUploaded,
    Liveness,
    News,
    bootstrap_from,
    parse_bootstrap,
)

# stem logs every line of the control connection, addresses included, for whoever listens.
logging.getLogger("stem").disabled = True

T = TypeVar("T")

_CALL_SECONDS: Final = 10
ALIVE_SECONDS: Final = 45  # a tor in a flood, on a slow machine, is not to be taken for one that hangs
_POLL_SECONDS: Final = 0.05


class Control:
    """An authenticated connection that owns its tor: when it closes, for whatever reason, tor ends."""

    def __init__(self, controller: Any) -> None:
        self._controller = controller

    @classmethod
    async def connect(cls, path: Path, *, timeout_seconds: float) -> Control:
        """Wait for tor's socket and authenticate. Raises Unavailable."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    with contextlib.suppress(Unavailable):
                        return cls(await _in_thread(lambda: _open(path)))
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise Unavailable("tor's control port does not answer") from None

    async def listen(self, on_news: Callable[[News], None]) -> None:
        """Call `on_news` on the loop from now on, first with the present bootstrap phase.

        Raises Unavailable.
        """
        loop = asyncio.get_running_loop()

        def hand_over(news: News | None) -> None:
            if news is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed already
                    loop.call_soon_threadsafe(on_news, news)

        def attach() -> None:
            self._controller.add_event_listener(
                lambda event: hand_over(_translate(event)),
                EventType.STATUS_CLIENT,
                EventType.STATUS_GENERAL,
                EventType.HS_DESC,
                EventType.NETWORK_LIVENESS,
            )
            self._controller.add_status_listener(lambda _controller, state, _at: hand_over(_lost(state)), spawn=False)
            # What happened before the listeners were there is lost: ask once.
            with contextlib.suppress(ValueError):
                hand_over(parse_bootstrap(self._controller.get_info("status/bootstrap-phase")))

        await _in_thread(attach)

    async def version(self) -> str:
        """tor's own, as `0.4.8.16`. Raises Unavailable."""
        return str(await _in_thread(self._controller.get_version)).partition(" ")[0]

    async def answers(self) -> None:
        """Whether tor is alive, asked of itself. Raises Unavailable: it is not, or hangs."""
        await _in_thread(lambda: self._controller.get_info("traffic/read"), seconds=ALIVE_SECONDS)

    async def release_network(self) -> None:
        """From here on tor dials. Raises Unavailable."""
        await _in_thread(lambda: self._controller.set_conf("DisableNetwork", "0"))

    async def reload(self) -> None:
        """Let tor read its torrc and the services' clients again. Raises Unavailable."""
        await _in_thread(lambda: self._controller.signal(stem.Signal.RELOAD), seconds=ALIVE_SECONDS)

    async def admit(self, access: Access) -> None:
        """Let tor itself reach that onion service, until a SETCONF or reload. Raises Unavailable.

        Kept in memory only, where ClientOnionAuthDir would need a file.
        """
        name, key = access.address.removesuffix(".onion"), base64.b64encode(access.key).decode()
        line = f"ONION_CLIENT_AUTH_ADD {name} x25519:{key}"
        answer = await _in_thread(lambda: self._controller.msg(line), seconds=ALIVE_SECONDS)
        if answer.content()[0][0] not in ("250", "251", "252"):  # control-spec, ONION_CLIENT_AUTH_ADD
            raise Unavailable("tor does not take the key of its own onion service")

    async def close_circuit(self, number: int) -> None:
        """End that circuit with all its streams; none such is as good. Raises Unavailable."""
        # Not stem's own call, which raises what is harmless here: the circuit was gone before.
        await _in_thread(lambda: self._controller.msg(f"CLOSECIRCUIT {number}"), seconds=ALIVE_SECONDS)

    async def close(self) -> None:
        """Never raises. tor ends of it."""
        with contextlib.suppress(Unavailable):
            await _in_thread(self._controller.close)


async def _in_thread(call: Callable[[], T], *, seconds: float = _CALL_SECONDS) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.to_thread(call)
    except (stem.ControllerError, stem.connection.AuthenticationFailure, TimeoutError, OSError):
        raise Unavailable("tor's control port does not answer") from None


def _open(path: Path) -> Any:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))  # stem leaves its socket open when nobody listens yet
    controller = stem.control.Controller.from_socket_file(str(path))
    try:
        # Sees that __OwningControllerProcess is us and sends TAKEOWNERSHIP by itself.
        controller.authenticate()
    except BaseException:
        controller.close()
        raise
    return controller


def _translate(event: Any) -> News | None:
    """Our word for stem's event, or None for what we do not listen for. Runs on a thread of stem's."""
    if isinstance(event, stem.response.events.HSDescEvent):
        if event.action != stem.HSDescAction.UPLOADED:
            return None
        return DescriptorUploaded(f"{event.address}.onion", event.directory_fingerprint)
    if isinstance(event, stem.response.events.NetworkLivenessEvent):
        return Liveness(up=event.status == "UP")
    return _translate_status(event.action, event.keyword_args)


def _translate_status(action: str, words: dict[str, str]) -> Bootstrap | ClockSkew | None:
    with contextlib.suppress(ValueError):
        match action:
            case "BOOTSTRAP":
                return bootstrap_from(words)
            case "CLOCK_SKEW":
                return ClockSkew(int(words["SKEW"]) if "SKEW" in words else None)
    return None


def _lost(state: str) -> ControlLost | None:
    return ControlLost() if state == stem.control.State.CLOSED else None
