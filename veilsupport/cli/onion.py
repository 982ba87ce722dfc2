"""The command line's `onion`: the page's onion service, the one of the operator's own XMPP server, and their clients.

Each change is one of the settings' file, whole or not at all, and a running appliance takes it at once. A client's
private key is printed when it is made and kept nowhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click
import segno

from veilsupport import config, controlsocket, crypto, directory
from veilsupport.cli import options
from veilsupport.cli.options import data_directory
from veilsupport.cli.terminal import qr_code
from veilsupport.config import Config, OnionClientSettings, XmppOnionSettings
from veilsupport.directory import DataDirectory, Onion
from veilsupport.errors import SetupError
from veilsupport.onions import base32

_UNKNOWN: Final = "ADDRESS"
_PAGE_KEY: Final = """\
The client {name} is added. The key is shown this once and kept nowhere: hand it over by a way that you trust.

Tor Browser asks for it when the page is opened; with "Remember this key" it asks once:
  http://{address}.onion/
  Key: {key}
"""
_XMPP_KEY: Final = """\
The client {name} is added. The key is shown this once and kept nowhere: hand it over by a way that you trust.

Orbot, under More, Client Authorization (then restart Orbot):
  Onion address: {address}.onion
  Key:           {key}
"""
_KEY_FILE: Final = """
Any other tor: a file {name}.auth_private in its ClientOnionAuthDir, with this line:
  {address}:descriptor:x25519:{key}
"""
_NO_ADDRESS: Final = SetupError(
    "There is no onion address yet.", hint="It is made when the desk first runs with tor: veilsupport run"
)

_for_xmpp = click.option("--xmpp", is_flag=True, help="Of your own XMPP server, not of the page.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")

_LAST: Final = SetupError(
    "The other clients were removed at the same moment, so this is the last one.",
    hint="If it shall go too, say it again.",
)


@click.group()
def onion() -> None:
    """The onion services: the page's, and your own XMPP server's; who may reach them."""


@onion.command()
@data_directory
@options.passphrase_file
def show(data: Path, passphrase_file: Path | None) -> None:
    """The page's address, whether it is reachable, and who may reach it."""
    settings, told = config.load(data), _tor_told(data)
    address = _page_address(data, passphrase_file)
    names = ", ".join(each.name for each in settings.onion.client)
    click.echo(f"Address: {address}")
    click.echo(f"Page: {_url(address, settings)}")
    click.echo(f"State: {told['summary'] if told else 'the desk does not run with tor'}")
    click.echo(f"Clients: {names or 'none; everybody who knows the address may come'}")


@onion.command()
@data_directory
@options.passphrase_file
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Write it as a picture to this file.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="The same, for print.")
def qr(data: Path, passphrase_file: Path | None, png: Path | None, svg: Path | None) -> None:
    """The page's address as a QR code: on the terminal, or into a file."""
    url = _url(_page_address(data, passphrase_file), config.load(data))
    for file, kind in ((png, "png"), (svg, "svg")):
        if file is not None:
            _draw(url, file, kind)
    if not (png or svg):
        click.echo(qr_code(url))
        click.echo(url)


@onion.command()
@data_directory
@options.passphrase_file
@_yes
def rotate(data: Path, passphrase_file: Path | None, yes: bool) -> None:
    """A new address for the page, while the desk is stopped. The old one is gone for good, and links to it are dead."""
    with DataDirectory(data) as house:
        if house.is_new:
            raise _NO_ADDRESS.anew()
        key = house.key(lambda: options.passphrase(passphrase_file))
        _agreed(
            "The old address dies: visitors, sites and QR codes that have it lead nowhere. Go on?",
            yes=yes,
            refusal="The old address would die for good.",
        )
        url = _url(house.rotate(Onion.PAGE, key), config.load(data))
    if sys.stdout.isatty():
        click.echo(qr_code(url))
    click.echo(f"The page's new address, from the next start on: {url}")
    click.echo("The old key is overwritten and removed; a backup made before still holds it. Clients keep their keys.")


@onion.command()
@data_directory
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Your XMPP server's port on 127.0.0.1: sets the service up."
)
def xmpp(data: Path, port: int | None) -> None:
    """Address and clients of your own XMPP server's service."""
    if port:
        directory.change_settings(data, lambda before: _with_xmpp(before, {"port": port}))
    service = _xmpp_service(config.load(data))
    told = _xmpp_told(data)
    names = ", ".join(each.name for each in service.client)
    click.echo(f"Address: {told['address']}" if told else "Address: known once the desk runs with tor")
    click.echo(f"Leads to: 127.0.0.1:{service.port}")
    click.echo(f"State: {told['summary'] if told else 'the desk does not run with tor'}")
    click.echo(f"Clients: {names or 'none (veilsupport onion client add NAME --xmpp)'}")


@onion.group()
def client() -> None:
    """Who may reach the page, or with --xmpp your own XMPP server: one name for each device.

    With a first client the page is private, and nobody else finds it.
    """


@client.command()
@data_directory
@_for_xmpp
@click.argument("name")
def add(data: Path, xmpp: bool, name: str) -> None:
    """Let NAME reach it, and print the key that they need."""
    pair = crypto.new_key_pair()
    directory.change_settings(data, lambda before: _added(before, name, base32(pair.public), xmpp=xmpp))
    address = (_xmpp_told(data) or {}).get("address") if xmpp else _open_page_address(data)
    words = {"name": name, "key": base32(pair.private), "address": (address or _UNKNOWN).removesuffix(".onion")}
    click.echo(((_XMPP_KEY if xmpp else _PAGE_KEY) + _KEY_FILE).format(**words), nl=False)
    if address is None:
        say = "xmpp" if xmpp else "show"
        click.echo(f"\n{_UNKNOWN} is known once the desk runs with tor: veilsupport onion {say}")
    if not xmpp and len(config.load(data).onion.client) == 1:
        click.echo("\nThe page is private from now on: whoever has no key cannot find it.")


@client.command()
@data_directory
@_for_xmpp
@_yes
@click.argument("name")
def remove(data: Path, xmpp: bool, yes: bool, name: str) -> None:
    """Take NAME's key back."""
    opens = not (xmpp or _removed(config.load(data), name, xmpp=False).onion.client)
    if opens:
        _agreed(
            "This is the last client: the page is then open to everybody. Go on?",
            yes=yes,
            refusal="Without its last client the page would be open to everybody.",
        )

    def change(before: Config) -> Config:
        after = _removed(before, name, xmpp=xmpp)
        if not (opens or xmpp or after.onion.client):
            raise _LAST.anew()
        return after

    directory.change_settings(data, change)
    if opens:
        click.echo(f"The client {name} is removed. Everybody may reach the page now.")
    else:
        click.echo(f"The client {name} is removed. Everybody is disconnected; the others come back by themselves.")


@client.command("list")
@data_directory
@_for_xmpp
def list_clients(data: Path, xmpp: bool) -> None:
    """The names, one a line."""
    for each in _clients(config.load(data), xmpp=xmpp):
        click.echo(each.name)


# ---- within ------------------------------------------------------------------------------------------------------


def _xmpp_service(settings: Config) -> XmppOnionSettings:
    if settings.xmpp_onion is None:
        raise SetupError(
            "There is no onion service for an XMPP server of your own yet.",
            hint="Name its port on 127.0.0.1, for example: veilsupport onion xmpp --port 5222",
        )
    return settings.xmpp_onion


def _clients(settings: Config, *, xmpp: bool) -> tuple[OnionClientSettings, ...]:
    return _xmpp_service(settings).client if xmpp else settings.onion.client


def _added(before: Config, name: str, key: str, *, xmpp: bool) -> Config:
    clients = _clients(before, xmpp=xmpp)
    if name in {each.name for each in clients}:
        raise SetupError(
            "There is a client of that name.", hint="Choose another, or first: veilsupport onion client remove"
        )
    return _with_clients(before, (*_values(clients), {"name": name, "key": key}), xmpp=xmpp)


def _removed(before: Config, name: str, *, xmpp: bool) -> Config:
    clients = _clients(before, xmpp=xmpp)
    left = tuple(each for each in clients if each.name != name)
    if len(left) == len(clients):
        raise SetupError(
            "There is no such client.",
            hint=f"The known ones: veilsupport onion client list{' --xmpp' if xmpp else ''}",
        )
    return _with_clients(before, _values(left), xmpp=xmpp)


def _with_clients(before: Config, clients: tuple[dict[str, str], ...], *, xmpp: bool) -> Config:
    if xmpp:
        return _with_xmpp(before, {"client": clients})
    return config.check(before.model_dump() | {"onion": {"client": clients}})


def _with_xmpp(before: Config, changed: dict[str, Any]) -> Config:
    values = before.model_dump()
    return config.check(values | {"xmpp_onion": (values["xmpp_onion"] or {}) | changed})


def _values(clients: tuple[OnionClientSettings, ...]) -> tuple[dict[str, str], ...]:
    return tuple(each.model_dump() for each in clients)


def _tor_told(data: Path) -> dict[str, Any] | None:
    """What the running appliance says of tor; None when it does not run, or without tor."""
    told: dict[str, Any] | None = (controlsocket.ask(data, "status") or {}).get("tor")
    return told


def _xmpp_told(data: Path) -> dict[str, Any] | None:
    """What it says of the XMPP server's service."""
    told: dict[str, Any] | None = (_tor_told(data) or {}).get("private")
    return told


def _page_address(data: Path, passphrase_file: Path | None) -> str:
    """By the running appliance, or by the key as it rests. SetupError: there is none yet."""
    told = (_tor_told(data) or {}).get("address")
    if told:
        return str(told)
    address = DataDirectory(data).address(Onion.PAGE, lambda: options.passphrase(passphrase_file))
    if address is None:
        raise _NO_ADDRESS.anew()
    return address


def _open_page_address(data: Path) -> str | None:
    """The same without asking for a passphrase; None when one would be needed, or there is no address yet."""
    told = (_tor_told(data) or {}).get("address")
    if told or (data / Onion.PAGE.sealed).exists():
        return told or None
    return DataDirectory(data).address(Onion.PAGE, lambda: None)


def _url(address: str, settings: Config) -> str:
    return f"http://{address}{settings.web.prefix}/"


def _draw(url: str, file: Path, kind: str) -> None:
    try:
        segno.make(url, error="m").save(str(file), kind=kind, scale=8)
    except OSError:
        raise SetupError(
            "The picture cannot be written.", hint="Look at the path, its permissions and the disk."
        ) from None
    click.echo(f"The QR code is in {file}")


def _agreed(question: str, *, yes: bool, refusal: str) -> None:
    """SetupError: nobody is there to be asked. Abort: they said no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise SetupError(refusal, hint="If that is what you want, give --yes.")
    click.confirm(question, abort=True)
