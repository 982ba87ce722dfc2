"""The stream of an account: the certificate before the password, and nothing before either.

What stock slixmpp would do and this does not, besides what dialling.py says:

- take anything but the offer of STARTTLS before TLS is up: a message forged there would look like an admin's;
- try PLAIN after SCRAM has failed.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from typing import Any, Final

from slixmpp import ClientXMPP

from veilsupport.xmpp import signals
from veilsupport.xmpp.account import Account, Tls, Trust
from veilsupport.xmpp.dialling import Dialled

_FEATURES: Final = "{http://etherx.jabber.org/streams}features"
_BEFORE_TLS: Final = {
    _FEATURES,
    "{http://etherx.jabber.org/streams}error",
    "{urn:ietf:params:xml:ns:xmpp-tls}proceed",
    "{urn:ietf:params:xml:ns:xmpp-tls}failure",
}


class Transport(Dialled, ClientXMPP):
    """A connection that is dialled again and again, so that its session can be resumed."""

    def __init__(self, account: Account, *, credentials: tuple[str, str], dial_seconds: float) -> None:
        super().__init__(
            f"{account.jid.reveal()}/{account.resource}",
            account.password.reveal(),
            plugin_config={"xep_0198": {"window": 2**30}},  # its own <r/> comes one stanza too early
        )
        self._account = account
        self._secured = False
        self._shaking_hands = False
        self._negotiations: set[asyncio.Task[Any]] = set()
        self._prepare(account, credentials=credentials, dial_seconds=dial_seconds)
        self._set_up_tls()
        for event, react in (
            ("failed_auth", self._on_failed_auth),
            ("no_auth", lambda _: self._give_up(signals.NO_SIGN_IN)),
            ("ssl_invalid_chain", self._on_bad_chain),
        ):
            self.add_event_handler(event, self._guarded(react))

    def open(self) -> None:
        self._secured = False
        self.plugin["feature_mechanisms"].attempted_mechs = set()
        super().open()

    # ---- securing it (overrides) -----------------------------------------------------------------------------

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

    def _lost(self) -> None:
        if not self.gone.is_set():
            for task in self._negotiations:
                task.cancel()
            for waiter in ("resumed_or_failed", "enabled_or_failed"):
                self.remove_handler(waiter)
            super()._lost()

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
