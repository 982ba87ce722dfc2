"""The command line's `onion`: the private onion service in front of the operator's own XMPP server, and its clients.

Each change is one of the settings' file, whole or not at all, and a running appliance takes it at once. A client's
private key is printed when it is made and kept nowhere.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Final

import click

from veilsupport import config, crypto, directory
from veilsupport.config import Config, OnionClientSettings, XmppOnionSettings
from veilsupport.errors import SetupError
from veilsupport.options import data_directory

_UNKNOWN: Final = "ADDRESS"
_KEY: Final = """\
The client {name} is added. The key is shown this once and kept nowhere: hand it over by a way that you trust.

Orbot, under More, Client Authorization (then restart Orbot):
  Onion address: {address}.onion
  Key:           {key}

Any other tor: a file {name}.auth_private in its ClientOnionAuthDir, with this line:
  {address}:descriptor:x25519:{key}
"""


@click.group()
def onion() -> None:
    """The onion service of your own XMPP server, and who may reach it."""


@onion.command()
@data_directory
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Your XMPP server's port on 127.0.0.1: sets the service up."
)
def xmpp(data: Path, port: int | None) -> None:
    """Its address and its clients."""
    if port:
        directory.change_settings(data, lambda before: _checked(before, {"port": port}))
    service = _service(config.load(data))
    told = _told(data)
    click.echo(f"Address: {_address(told)}.onion" if told else "Address: known once the desk runs with tor")
    click.echo(f"Leads to: 127.0.0.1:{service.port}")
    click.echo(f"State: {told['summary'] if told else 'the desk does not run with tor'}")
    click.echo(f"Clients: {', '.join(each.name for each in service.client) or 'none (veilsupport onion client add)'}")


@onion.group()
def client() -> None:
    """Who may reach it: one name for each device."""


@client.command()
@data_directory
@click.argument("name")
def add(data: Path, name: str) -> None:
    """Let NAME reach it, and print the key that they need."""
    pair = crypto.new_key_pair()
    directory.change_settings(data, lambda before: _with(before, name, _base32(pair.public)))
    address = _address(_told(data))
    click.echo(_KEY.format(name=name, address=address, key=_base32(pair.private)), nl=False)
    if address == _UNKNOWN:
        click.echo(f"\n{_UNKNOWN} is known once the desk runs with tor: veilsupport onion xmpp")


@client.command()
@data_directory
@click.argument("name")
def remove(data: Path, name: str) -> None:
    """Take NAME's key back."""
    directory.change_settings(data, lambda before: _without(before, name))
    click.echo(f"The client {name} is removed. All apps are disconnected; those of the others come back by themselves.")


@client.command("list")
@data_directory
def list_clients(data: Path) -> None:
    """The names, one a line."""
    for each in _service(config.load(data)).client:
        click.echo(each.name)


# ---- within ------------------------------------------------------------------------------------------------------


def _service(settings: Config) -> XmppOnionSettings:
    if settings.xmpp_onion is None:
        raise SetupError(
            "There is no onion service for an XMPP server of your own yet.",
            hint="Name its port on 127.0.0.1, for example: veilsupport onion xmpp --port 5222",
        )
    return settings.xmpp_onion


def _with(before: Config, name: str, key: str) -> Config:
    clients = _service(before).client
    if name in {each.name for each in clients}:
        raise SetupError(
            "There is a client of that name.", hint="Choose another, or first: veilsupport onion client remove"
        )
    return _checked(before, {"client": (*_values(clients), {"name": name, "key": key})})


def _without(before: Config, name: str) -> Config:
    clients = _service(before).client
    left = tuple(each for each in clients if each.name != name)
    if len(left) == len(clients):
        raise SetupError("There is no such client.", hint="The known ones: veilsupport onion client list")
    return _checked(before, {"client": _values(left)})


def _values(clients: tuple[OnionClientSettings, ...]) -> tuple[dict[str, str], ...]:
    return tuple(each.model_dump() for each in clients)


def _checked(before: Config, changed: dict[str, Any]) -> Config:
    values = before.model_dump()
    return config.check(values | {"xmpp_onion": (values["xmpp_onion"] or {}) | changed})


def _told(data: Path) -> dict[str, Any] | None:
    """What the running appliance says of the service; None when it does not run, or without tor."""
    told = (directory.ask(data, "status") or {}).get("tor") or {}
    private: dict[str, Any] | None = told.get("private")
    return private


def _address(told: dict[str, Any] | None) -> str:
    """Without .onion, as tor's files have it."""
    return str(told["address"]).removesuffix(".onion") if told else _UNKNOWN


def _base32(key: bytes) -> str:
    """As tor writes client keys: without padding."""
    return base64.b32encode(key).decode().rstrip("=")
