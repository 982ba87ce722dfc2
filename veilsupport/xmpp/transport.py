"""slixmpp over a SOCKS port: remote names only, and the certificate before the password.

What stock slixmpp would do and this does not:

- look names up (getaddrinfo, SRV), or follow the server to another host (`see-other-host`, which anyone on the way
  can send before TLS, and which would also change the name that the certificate is checked for);
- take anything but the offer of STARTTLS before TLS is up: a message forged there would look like an admin's;
- try PLAIN after SCRAM has failed;
- reconnect, or retry a dial: the supervisor in bridge.py does;
- swallow what a handler of ours raises, or send it to whoever's stanza made it fail;
- log: it prints raw stanzas.

`_attempt_connection` is private to slixmpp, which is why pyproject.toml holds it to one minor series.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from slixmpp import ClientXMPP

from veilsupport import log
from veilsupport.errors import Unavailable
from veilsupport.socks import dial
from veilsupport.xmpp import signals
from veilsupport.xmpp.account import Account, Tls, Trust
from veilsupport.xmpp.signals import Trouble

_FEATURES: Final = "{http://etherx.jabber.org/streams}features"
_BEFORE_TLS: Final = {
    _FEATURES,
    "{http://etherx.jabber.org/streams}error",
    "{urn:ietf:params:xml:ns:xmpp-tls}proceed",
    "{urn:ietf:params:xml:ns:xmpp-tls}failure",
}
_TLS_SECONDS: Final = 60.0


def cut_off_loggers() -> None:
    """slixmpp's lines hold raw stanzas: none of them goes anywhere."""
    logger = logging.getLogger("slixmpp")
    logger.handlers = [logging.NullHandler()]
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)


class Transport(ClientXMPP):
    """A connection that is dialled again and again, so that its session can be resumed.

    `gone` is set while there is no connection, `trouble` says why the last one ended, if it is known; `connection`
    counts the dials; `heard_at` is the loop's time of the last byte. `bug` gets what a handler of ours raised.
    Made inside the running loop.
    """

    def __init__(self, account: Account, *, credentials: tuple[str, str], dial_seconds: float) -> None:
        cut_off_loggers()
        super().__init__(
            f"{account.jid.reveal()}/{account.resource}",
            account.password.reveal(),
            plugin_config={"xep_0198": {"window": 2**30}},  # its own <r/> comes one stanza too early
        )
        self.gone = asyncio.Event()
        self.gone.set()
        self.bug: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.trouble: Trouble | None = None
        self.connection = 0
        self.heard_at = 0.0
        self._account = account
        self._credentials = credentials
        self._dial_seconds = dial_seconds
        self._secured = False
        self._shaking_hands = False
        self._negotiations: set[asyncio.Task[Any]] = set()
        self.whitespace_keepalive = False
        self._set_up_tls()
        for event, react in (
            ("failed_auth", self._on_failed_auth),
            ("no_auth", lambda _: self._give_up(signals.NO_SIGN_IN)),
            ("ssl_invalid_chain", self._on_bad_chain),
            ("disconnected", self._on_disconnected),
        ):
            self.add_event_handler(event, self._guarded(react))

    def open(self) -> None:
        """Begin to dial. `up` or `gone` follows, or neither: the caller sets the limit."""
        self.connection += 1
        self.trouble = None
        self.heard_at = self.loop.time()
        self._secured = False
        self.gone.clear()
        self.plugin["feature_mechanisms"].attempted_mechs = set()
        self.connect(self._account.host, self._account.port)

    def cut(self, trouble: Trouble) -> None:
        """Let go of the connection at once, without `</stream>`: that would end the session for good."""
        if self.gone.is_set():
            return
        self.trouble = self.trouble or trouble
        self.cancel_connection_attempt()
        self.abort()
        self._lost()

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
        if self._account.proxy:
            return await dial(
                self._account.proxy,
                host,
                port,
                credentials=self._credentials,
                timeout_seconds=self._dial_seconds,
            )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET  # Account lets loopback IP addresses through only
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(self._dial_seconds):
                await self.loop.sock_connect(connection, (host, port))
        except BaseException:
            connection.close()
            raise
        return connection

    def connection_made(self, transport: Any, send_event: bool = True) -> None:
        """Both kinds of TLS pass here, before anything of ours is written over them."""
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and not self._is_pinned(tls):
            transport.abort()
            self._give_up(signals.WRONG_PIN)
            return
        self._secured = tls is not None or self._account.tls is Tls.NONE
        super().connection_made(transport, send_event)

    def _is_pinned(self, tls: Any) -> bool:
        """Whether the certificate is the one that the account names, if it names one."""
        if self._account.trust is not Trust.PIN:
            return True
        return hashlib.sha256(tls.getpeercert(True)).hexdigest() == self._account.fingerprint

    async def start_tls(self) -> bool:
        self.parser = None  # What was sent in the clear behind <proceed/> is not part of what follows.
        self._shaking_hands = True
        try:
            done = await super().start_tls()
        finally:
            self._shaking_hands = False
        if not done:
            self._give_up(signals.TLS_FAILED)
        return done

    def data_received(self, data: bytes | str) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)

    # ---- reading (overrides) ---------------------------------------------------------------------------------

    def recv_stanza(self, stanza: Any) -> None:
        if self._secured or stanza.xml.tag in _BEFORE_TLS:
            super().recv_stanza(stanza)

    async def _handle_stream_features(self, features: Any) -> bool | None:
        """Ends with its connection: otherwise one that waits for the answer to `<resume/>` wakes up in a later
        connection, and binds a second time or resets the counters of XEP-0198."""
        if not self._secured and "starttls" not in features["features"]:
            self._give_up(signals.NO_TLS)
            return True
        task = asyncio.current_task()
        assert task is not None
        self._negotiations.add(task)
        try:
            return await super()._handle_stream_features(features)
        finally:
            self._negotiations.discard(task)

    def _handle_stream_error(self, error: Any) -> None:
        """RFC 6120 §4.9; see-other-host is not followed."""
        conflict = error["condition"] == "conflict"
        self.trouble = self.trouble or (signals.REPLACED if conflict else signals.HUNG_UP)

    def exception(self, exception: Exception) -> None:
        """slixmpp's own code met a stanza that it cannot handle: from our server or an admin, and not worth an end."""
        log.logger.warning("slixmpp could not handle something: %s", type(exception).__name__)

    # ---- within ----------------------------------------------------------------------------------------------

    def _set_up_tls(self) -> None:
        tls = self._account.tls
        self.enable_starttls = tls is Tls.STARTTLS
        self.enable_direct_tls = tls is Tls.DIRECT
        self.enable_plaintext = tls is Tls.NONE
        context = ssl.create_default_context()
        if self._account.trust is not Trust.VERIFY:  # the fingerprint, or the onion address, is the identity
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self.ssl_context = context
        if tls is Tls.NONE:
            mechanisms = self.plugin["feature_mechanisms"]
            mechanisms.unencrypted_scram = mechanisms.unencrypted_plain = True

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
            for task in self._negotiations:
                task.cancel()
            for waiter in ("resumed_or_failed", "enabled_or_failed"):
                self.remove_handler(waiter)
            self.gone.set()

    def _on_disconnected(self, _: Any) -> None:
        """A failed handshake also loses the connection, a moment before it says why: wait for the reason."""
        if not self._shaking_hands:
            self._lost()

    def _on_bad_chain(self, error: ssl.SSLError) -> None:
        untrusted = isinstance(error, ssl.SSLCertVerificationError)
        self._give_up(signals.UNTRUSTED if untrusted else signals.TLS_FAILED)

    def _on_failed_auth(self, failure: Any) -> None:
        """Not the next mechanism: after SCRAM has failed, PLAIN would only show the password."""
        temporary = failure["condition"] == "temporary-auth-failure"
        self._give_up(signals.NOT_NOW if temporary else signals.WRONG_PASSWORD)
