"""slixmpp's stream over a SOCKS port: dialled by name through the proxy, once for each call, and silent.

What stock slixmpp would do and this does not:

- look names up (getaddrinfo, SRV), or follow the server to another host (`see-other-host`, which anyone on the way
  can send before TLS, and which would also change the name that the certificate is checked for);
- reconnect, or retry a dial: supervise.py does;
- swallow what a handler of ours raises, or send it to whoever's stanza made it fail;
- log: it prints raw stanzas.

`_attempt_connection` is private to slixmpp, which is why pyproject.toml holds it to one minor series. How the stream is
secured and who signs in is for its two kinds to say: transport.py (an account) and component.py.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

from slixmpp.basexmpp import BaseXMPP

from veilsupport import log
from veilsupport.errors import Unavailable
from veilsupport.socks import SocksProxy, dial
from veilsupport.xmpp import signals
from veilsupport.xmpp.signals import Trouble

_TLS_SECONDS: Final = 60.0


class Where(Protocol):
    """What is dialled. `proxy` None: directly, which only a loopback IP address may be."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def proxy(self) -> SocksProxy | None: ...


class Dialled(BaseXMPP):
    """A stream that is dialled again and again. For a class that is one of slixmpp's as well, which stands behind it.

    `up` is set while there is a session, `gone` while there is no connection; `trouble` says why the last one ended,
    if it is known; `connection` counts the dials; `heard_at` is the loop's time of the last byte. `bug` gets what a
    handler of ours raised. `farewell` is called before a session is ended in order. Made inside the running loop.
    """

    def _prepare(self, where: Where, *, credentials: tuple[str, str], dial_seconds: float) -> None:
        """To be called once slixmpp's own class is made."""
        cut_off_loggers()
        self.up = asyncio.Event()
        self.gone = asyncio.Event()
        self.gone.set()
        self.bug: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.trouble: Trouble | None = None
        self.connection = 0
        self.heard_at = 0.0
        self.farewell: Callable[[], None] = lambda: None
        self._where = where
        self._credentials = credentials
        self._dial_seconds = dial_seconds
        self.whitespace_keepalive = False
        self.add_event_handler("disconnected", self._guarded(self._on_disconnected))

    def open(self) -> None:
        """Begin to dial. `up` or `gone` follows, or neither: the caller sets the limit."""
        self.connection += 1
        self.trouble = None
        self.heard_at = self.loop.time()
        self.gone.clear()
        self.connect(self._where.host, self._where.port)

    def cut(self, trouble: Trouble) -> None:
        """Let go of the connection at once, without `</stream>`: that would end the session for good."""
        if self.gone.is_set():
            return
        self.trouble = self.trouble or trouble
        self.cancel_connection_attempt()
        self.abort()
        self._lost()

    async def close(self, timeout_seconds: float) -> None:
        """End the session in order, so that the server keeps no ghost of it, then let everything go."""
        if self.up.is_set():
            self.farewell()
            self.send("</stream:stream>")
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self.gone.wait()
            except TimeoutError:
                pass  # The server takes its time; our side is closed all the same.
        self.drop()

    def drop(self) -> None:
        """Let everything go at once, tasks and timers too."""
        self.cut(signals.HUNG_UP)
        for name in list(self.scheduled_events):
            self.cancel_schedule(name)
        if self._run_out_filters is not None:
            self._run_out_filters.cancel()
        if not self.bug.done():
            self.bug.cancel()

    # ---- dialling (overrides) --------------------------------------------------------------------------------

    async def get_dns_records(self, domain: str, port: int | None = None) -> list[tuple[str, str, str, int]]:
        raise RuntimeError("nothing is ever looked up")

    async def _attempt_connection(self, host: str, port: int, tls: bool, server_hostname: str | None) -> bool:
        """Dial once. True always: slixmpp would otherwise try again by itself."""
        self.event_when_connected = "connected"
        try:
            await self._dial(host, port, server_hostname if tls else None)
        except Unavailable as error:
            self._give_up(Trouble(error.message, refused=not error.temporary))
        except ssl.SSLCertVerificationError:
            self._give_up(signals.UNTRUSTED)
        except ssl.SSLError:
            self._give_up(signals.TLS_FAILED)
        except OSError:
            self._give_up(signals.BROKEN)
        except Exception as error:  # noqa: BLE001 - slixmpp would swallow it: a bug must reach run()
            self._report(error)
        return True

    async def _dial(self, host: str, port: int, server_hostname: str | None) -> None:
        connection = await self._socket(host, port)
        try:
            await self.loop.create_connection(
                lambda: self,
                sock=connection,
                ssl=self.get_ssl_context() if server_hostname else None,
                server_hostname=server_hostname,
                ssl_handshake_timeout=_TLS_SECONDS if server_hostname else None,
            )
        except BaseException:
            connection.close()
            raise

    async def _socket(self, host: str, port: int) -> socket.socket:
        if self._where.proxy:
            return await dial(
                self._where.proxy,
                host,
                port,
                credentials=self._credentials,
                timeout_seconds=self._dial_seconds,
            )
        family = (
            socket.AF_INET6 if ":" in host else socket.AF_INET
        )  # account.py lets loopback IP addresses through only
        connection = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so that asyncio sets TCP_NODELAY
        connection.setblocking(False)
        try:
            async with asyncio.timeout(self._dial_seconds):
                await self.loop.sock_connect(connection, (host, port))
        except BaseException:
            connection.close()
            raise
        return connection

    # ---- reading (overrides) ---------------------------------------------------------------------------------

    def data_received(self, data: bytes | str) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)

    def _handle_stream_error(self, error: Any) -> None:
        """RFC 6120 §4.9; see-other-host is not followed."""
        self.trouble = self.trouble or self._why_ended(error["condition"])

    def _why_ended(self, condition: str) -> Trouble:
        """A stream error in our words."""
        return signals.REPLACED if condition == "conflict" else signals.HUNG_UP

    def exception(self, exception: Exception) -> None:
        """slixmpp's own code met a stanza that it cannot handle: from our server or an admin, and not worth an end."""
        log.logger.warning("slixmpp could not handle something: %s", type(exception).__name__)

    # ---- for those who build on it ---------------------------------------------------------------------------

    def _guarded(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        """slixmpp turns exceptions into stanzas or swallows them; ours shall end the process."""

        def guarded(argument: Any) -> None:
            try:
                handler(argument)
            except Exception as error:  # noqa: BLE001 - reported to run(), which ends with it
                self._report(error)

        return guarded

    def _report(self, error: Exception) -> None:
        if not self.bug.done():
            self.bug.set_exception(error)

    def _give_up(self, trouble: Trouble) -> None:
        """This connection comes to nothing, and that is why."""
        self.trouble = self.trouble or trouble
        self._current_connection_attempt = None
        self.abort()
        self._lost()

    def _lost(self) -> None:
        if not self.gone.is_set():
            self.trouble = self.trouble or signals.HUNG_UP
            self.up.clear()
            self.gone.set()

    def _on_disconnected(self, _: Any) -> None:
        self._lost()


def cut_off_loggers() -> None:
    """slixmpp's lines hold raw stanzas: none of them goes anywhere."""
    logger = logging.getLogger("slixmpp")
    logger.handlers = [logging.NullHandler()]
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
