"""The settings of the onion services in tor's words: which they are, who may reach them, and how we do ourselves.

Knows settings and keys; does not know where a key rests (directory.py), nor how tor takes it (tor/).
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

from veilsupport import bundle, crypto
from veilsupport.config import Config, OnionClientSettings, XmppOnionSettings
from veilsupport.tor import OURSELVES, Access, Client, PrivateService, TorSettings

_XMPP_PORT: Final = 5222  # which XMPP apps dial by themselves


def page_clients(settings: Config, key: bytes) -> tuple[Client, ...]:
    """Who alone may reach the page, our own self-check with them; none when everybody may. `key`: the page's own."""
    if not settings.onion.client:
        return ()
    return (*_clients(settings.onion.client), Client(OURSELVES, base32(crypto.onion_access(key).public)))


def access(key: bytes) -> Access:
    """By what our own tor reaches the service of that key, here or on another machine."""
    return Access(crypto.onion_address(key), crypto.onion_access(key).private)


def client_tor(settings: Config, directory: Path, access: Access | None = None) -> TorSettings:
    """A tor in that directory which publishes nothing. `access`: to a service that is not for everybody."""
    executable, library_path = bundle.tor(settings.tor.executable)
    return TorSettings(
        directory=directory,
        onion=None,
        access=access,
        executable=executable,
        library_path=library_path,
        torrc_lines=settings.tor.lines,
    )


def private_service(settings: XmppOnionSettings, directory: Path, key: bytes) -> PrivateService:
    """The operator's own XMPP server as an onion service. `directory` is where tor finds `key`."""
    return PrivateService(
        directory=directory,
        address=crypto.onion_address(key),
        onion_port=_XMPP_PORT,
        local_port=settings.port,
        clients=_clients(settings.client),
    )


def base32(key: bytes) -> str:
    """As tor writes client keys: without padding."""
    return base64.b32encode(key).decode().rstrip("=")


def _clients(settings: tuple[OnionClientSettings, ...]) -> tuple[Client, ...]:
    return tuple(Client(each.name, each.key) for each in settings)
