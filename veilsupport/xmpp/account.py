"""The desk's own XMPP account, or its name as a component; how the server is dialled, and by what it is known."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from enum import StrEnum

from veilsupport.errors import SetupError
from veilsupport.model import Private
from veilsupport.socks import SocksProxy


class Tls(StrEnum):
    """How the connection becomes private."""

    STARTTLS = "starttls"
    DIRECT = "direct"
    NONE = "none"  # an onion address encrypts by itself


class Trust(StrEnum):
    """By what the server is known."""

    VERIFY = "verify"  # a certificate for the JID's domain, from a CA that this machine trusts
    PIN = "pin"  # this very certificate, by its SHA-256 fingerprint
    ANY = "any"  # any certificate: the onion address is the identity


@dataclass(frozen=True, slots=True)
class Account:
    """`jid` is bare. `host` is never looked up: it travels to the proxy as it is. `fingerprint`, for Trust.PIN, is
    the SHA-256 of the certificate's DER form, 64 hexadecimal digits. `proxy` None dials directly, which only a
    loopback IP address may. The resource stays the same over restarts, so that a new session takes the place of
    its ghost. SetupError: a combination that would be unsafe.
    """

    jid: Private
    password: Private
    host: str = field(repr=False)
    port: int = 5222
    tls: Tls = Tls.STARTTLS
    trust: Trust = Trust.VERIFY
    fingerprint: str = ""
    proxy: SocksProxy | None = None
    resource: str = "veilsupport"

    def __post_init__(self) -> None:
        own_identity = self.host.endswith(".onion") or is_loopback(self.host)
        if not own_identity and (self.tls is Tls.NONE or self.trust is Trust.ANY):
            raise SetupError(
                "This XMPP server can only be reached with TLS and a certificate that is checked.",
                hint='tls = "none" and certificate = "any" are for onion addresses, which are identities themselves.',
            )
        if self.trust is Trust.PIN and not re.fullmatch("[0-9a-f]{64}", self.fingerprint):
            raise SetupError(
                "The XMPP server's fingerprint is not one.", hint="Give the SHA-256 as 64 hexadecimal digits."
            )
        _check_way(self.host, self.proxy)

    @property
    def domain(self) -> str:
        return self.jid.reveal().partition("@")[2]


@dataclass(frozen=True, slots=True)
class ComponentAccount:
    """A domain of the operator's own server at which we answer for every address (XEP-0114); `secret` is known to both.

    `host` and `proxy` as above. SetupError: words would go over a network in the clear, for XEP-0114 has no TLS.
    """

    domain: Private
    secret: Private
    host: str = field(default="127.0.0.1", repr=False)
    port: int = 5347
    proxy: SocksProxy | None = None

    def __post_init__(self) -> None:
        if not self.host.endswith(".onion") and not is_loopback(self.host):
            raise SetupError(
                "A component's connection has no encryption of its own, so it goes to this machine or an onion only.",
                hint='Set host to 127.0.0.1 or to an onion address, or use an account instead: form = "rooms".',
            )
        _check_way(self.host, self.proxy)


def _check_way(host: str, proxy: SocksProxy | None) -> None:
    """SetupError: that server may not be dialled directly."""
    if proxy is None and not is_loopback(host):
        raise SetupError(
            "An XMPP server elsewhere is dialled through Tor only.", hint="Leave out --no-tor, or use 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """A loopback IP address; a name is none, because it would have to be looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
