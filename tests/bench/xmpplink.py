"""A client of an XMPP server, by hand: what two accounts of Prosody or ejabberd say to each other over plain TCP.

`account` is [sender's JID, password, receiver's JID, password]. Device 0 signs in as the sender and only speaks,
device 1 as the receiver and only listens; a message is accepted when the receiver has it, since a server acknowledges
none by itself.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any, Final

from tests.bench.dialects import Link, Told

_MARK: Final = re.compile(rb"<body>c(\d+)\. ")
_TAIL_BYTES: Final = 32  # longer than any mark
_LAST_QUESTION: Final = b"asked-last"


class XmppLink(Link):
    """RFC 6120: stream, SASL PLAIN, stream, bind; then what the client is there for."""

    def __init__(self, told: Told, account: Any, device: int, job: dict[str, Any]) -> None:
        super().__init__(told, account, device, job)
        sender, sender_password, receiver, receiver_password = account
        self._jid: str = receiver if device else sender
        self._password: str = receiver_password if device else sender_password
        self._domain = self._jid.partition("@")[2]
        self._head = f"<message type='chat' to='{receiver}' id='c".encode()
        self._bytes = b""
        self._step: Callable[[], bool] = self._sign_in

    def begin(self) -> None:
        self.transport.write(
            f"<stream:stream to='{self._domain}' version='1.0' xmlns='jabber:client'"
            " xmlns:stream='http://etherx.jabber.org/streams'>".encode()
        )

    def say(self, number: int, text: str) -> None:
        self.transport.write(self._head + f"{number}'><body>{text}</body></message>".encode())

    def data_received(self, data: bytes) -> None:
        if not self.ready.done():
            self._bytes += data
            if b"<failure" in self._bytes or b"<stream:error" in self._bytes:
                self.transport.abort()
            elif self._step():
                self._bytes = b""
        elif self.device:
            self._listen(data)
        elif b"type='error'" in data or b"<stream:error" in data:
            self.told.lost(self)

    # ---- signing in ----------------------------------------------------------------------------------------------
    # Each step is done with the bytes that it waited for: a server says nothing more before it hears from us.

    def _sign_in(self) -> bool:
        if b"</stream:features>" not in self._bytes:
            return False
        words = base64.b64encode(f"\0{self._jid.partition('@')[0]}\0{self._password}".encode())
        self.transport.write(b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + words + b"</auth>")
        self._step = self._begin_again
        return True

    def _begin_again(self) -> bool:
        if b"<success" not in self._bytes:
            return False
        self.begin()
        self._step = self._bind
        return True

    def _bind(self) -> bool:
        """A receiver is also available (RFC 6121 §4.2); the answer to the last question says that this was heard."""
        if b"</stream:features>" not in self._bytes:
            return False
        self.transport.write(
            b"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
            + b"<presence/>" * bool(self.device)
            + f"<iq type='get' to='{self._domain}' id='{_LAST_QUESTION.decode()}'>".encode()
            + b"<ping xmlns='urn:xmpp:ping'/></iq>"
        )
        self._step = self._bound
        return True

    def _bound(self) -> bool:
        heard = _LAST_QUESTION in self._bytes
        if heard:
            self.is_ready()
        return heard

    # ---- listening -----------------------------------------------------------------------------------------------

    def _listen(self, data: bytes) -> None:
        known = len(self._bytes)
        data = self._bytes + data
        for found in _MARK.finditer(data):
            if found.end() > known:
                self.told.seen(int(found[1]))
                self.told.accepted(int(found[1]))
        self._bytes = data[-_TAIL_BYTES:]
