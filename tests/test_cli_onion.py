"""`veilsupport onion`, as its operator meets it.

That a running tor takes it at once: live/test_own_server.py, live/test_private_desk.py.
"""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.public import PrivateKey

from tests.commands import printed, refusal
from veilsupport import config, crypto, directory
from veilsupport.cli.status import in_words
from veilsupport.config import FILE_NAME, Config
from veilsupport.directory import ONION_KEY, DataDirectory, Onion
from veilsupport.model import Private


def onion(data: Path, *words: str) -> str:
    return printed("onion", *words, "--data", str(data))


def wrong(data: Path, *words: str) -> str:
    return refusal("onion", *words, "--data", str(data))


def test_a_client_is_named_and_only_the_public_half_of_the_key_is_kept(tmp_path: Path) -> None:
    assert "127.0.0.1:5222" in onion(tmp_path, "xmpp", "--port", "5222")
    told = onion(tmp_path, "client", "add", "ada-phone", "--xmpp")
    shown = re.findall(r"\b[A-Z2-7]{52}\b", told)
    assert len(shown) == 2  # for Orbot, and as tor's line
    assert shown[0] == shown[1]
    assert f"ADDRESS:descriptor:x25519:{shown[0]}" in told
    [client] = config.load(tmp_path).xmpp_onion.client  # type: ignore[union-attr]
    private = PrivateKey(base64.b32decode(shown[0] + "===="))
    assert base64.b32encode(bytes(private.public_key)).decode().rstrip("=") == client.key
    assert shown[0] not in (tmp_path / FILE_NAME).read_text()
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_clients_come_and_go_and_the_port_changes_without_them(tmp_path: Path) -> None:
    onion(tmp_path, "xmpp", "--port", "5222")
    assert onion(tmp_path, "client", "list", "--xmpp") == ""
    onion(tmp_path, "client", "add", "ada", "--xmpp")
    onion(tmp_path, "client", "add", "bob", "--xmpp")
    assert onion(tmp_path, "client", "list", "--xmpp").split() == ["ada", "bob"]
    assert onion(tmp_path, "client", "list") == "", "those are not the page's"
    told = onion(tmp_path, "xmpp", "--port", "5223")
    assert "Clients: ada, bob" in told
    assert "Leads to: 127.0.0.1:5223" in told
    assert "known once the desk runs" in told
    assert "is removed" in onion(tmp_path, "client", "remove", "ada", "--xmpp")
    assert onion(tmp_path, "client", "list", "--xmpp").split() == ["bob"]
    assert onion(tmp_path, "xmpp") == onion(tmp_path, "xmpp")  # looking changes nothing


def test_what_is_wrong_is_said_and_changes_nothing(tmp_path: Path) -> None:
    for words in (["xmpp"], ["client", "list", "--xmpp"], ["client", "add", "ada", "--xmpp"]):
        assert "--port 5222" in wrong(tmp_path, *words)
    assert not (tmp_path / FILE_NAME).exists()
    onion(tmp_path, "xmpp", "--port", "5222")
    onion(tmp_path, "client", "add", "ada", "--xmpp")
    onion(tmp_path, "client", "add", "ada")
    before = (tmp_path / FILE_NAME).read_text()
    for of in ([], ["--xmpp"]):
        assert "of that name" in wrong(tmp_path, "client", "add", "ada", *of)
        assert "no such client" in wrong(tmp_path, "client", "remove", "bob", *of)
        for name in ("../ada", "Ada", "a b", ".auth", "_ourselves", ""):
            assert "1 to 32" in wrong(tmp_path, "client", "add", name, *of)
    assert (tmp_path / FILE_NAME).read_text() == before


# ---- the page ----------------------------------------------------------------------------------------------------


def set_up(data: Path, passphrase: Private | None = None) -> str:
    """A page that has run with tor before; its address."""
    with DataDirectory(data) as house:
        key = house.key(lambda: passphrase, first=passphrase)
        return crypto.onion_address((house.onion(Onion.PAGE, key) / ONION_KEY).read_bytes())


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    file = tmp_path / "passphrase"
    file.write_text("open sesame\n")
    return file


def test_page_is_private_from_its_first_client_on(tmp_path: Path) -> None:
    address = set_up(tmp_path).removesuffix(".onion")
    told = onion(tmp_path, "client", "add", "ada-laptop")
    [key, again] = re.findall(r"\b[A-Z2-7]{52}\b", told)  # for Tor Browser, and as tor's line
    assert key == again
    assert f"  {address}:descriptor:x25519:{key}\n" in told
    assert f"http://{address}.onion/" in told
    assert "private from now on" in told
    [client] = config.load(tmp_path).onion.client
    assert base64.b32encode(bytes(PrivateKey(base64.b32decode(key + "====")).public_key)).decode()[:52] == client.key
    assert key not in (tmp_path / FILE_NAME).read_text()
    assert "private from now on" not in onion(tmp_path, "client", "add", "bob")
    assert "Clients: ada-laptop, bob" in onion(tmp_path, "show")


def test_last_client_is_removed_only_by_somebody_who_says_so(tmp_path: Path) -> None:
    for name in ("ada", "bob"):
        assert "ADDRESS is known once" in onion(tmp_path, "client", "add", name)
    onion(tmp_path, "client", "remove", "ada")
    assert "give --yes" in wrong(tmp_path, "client", "remove", "bob")
    assert onion(tmp_path, "client", "list").split() == ["bob"]
    assert "Everybody may reach the page" in onion(tmp_path, "client", "remove", "bob", "--yes")
    assert config.load(tmp_path).onion.client == ()


def test_two_who_remove_at_once_do_not_open_the_page_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ada", "bob"):
        onion(tmp_path, "client", "add", name)
    change_settings = directory.change_settings

    def meanwhile(data: Path, change: Callable[[Config], Config]) -> Config:
        """Somebody else is first."""
        monkeypatch.setattr(directory, "change_settings", change_settings)
        onion(tmp_path, "client", "remove", "ada")
        return change_settings(data, change)

    monkeypatch.setattr(directory, "change_settings", meanwhile)
    assert "this is the last one" in wrong(tmp_path, "client", "remove", "bob")
    assert onion(tmp_path, "client", "list").split() == ["bob"]


def test_address_is_shown_without_running(tmp_path: Path) -> None:
    assert "no onion address yet" in wrong(tmp_path, "show")
    address = set_up(tmp_path)
    (tmp_path / FILE_NAME).write_text('[web]\nprefix = "/support"\n')
    told = onion(tmp_path, "show")
    assert f"Address: {address}\nPage: http://{address}/support/\n" in told
    assert "everybody who knows the address" in told


def test_sealed_address_is_shown_to_who_has_the_passphrase(tmp_path: Path, passphrase_file: Path) -> None:
    address = set_up(tmp_path / "data", Private("open sesame"))
    assert address in onion(tmp_path / "data", "show", "--passphrase-file", str(passphrase_file))
    passphrase_file.write_text("guessed\n")
    assert address not in wrong(tmp_path / "data", "show", "--passphrase-file", str(passphrase_file))
    assert "ADDRESS" in onion(tmp_path / "data", "client", "add", "ada"), "no passphrase is asked for a key"


def test_qr_code_is_printed_or_written(tmp_path: Path) -> None:
    address = set_up(tmp_path / "data")
    told = onion(tmp_path / "data", "qr")
    assert told.endswith(f"\nhttp://{address}/\n")
    assert len(told.splitlines()) > 10
    png, svg = tmp_path / "a.png", tmp_path / "a.svg"
    onion(tmp_path / "data", "qr", "--png", str(png), "--svg", str(svg))
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in svg.read_text()
    assert "cannot be written" in wrong(tmp_path / "data", "qr", "--png", str(tmp_path / "no" / "a.png"))


def key_files(data: Path) -> list[bytes]:
    return [path.read_bytes() for path in data.rglob("*") if path.is_file()]


@pytest.mark.parametrize("sealed", [False, True])
def test_rotating_gives_a_new_address_and_leaves_nothing_of_the_old(
    tmp_path: Path, passphrase_file: Path, *, sealed: bool
) -> None:
    data, given = tmp_path / "data", ["--passphrase-file", str(passphrase_file)] if sealed else []
    address = set_up(data, Private("open sesame") if sealed else None)
    path = data / Onion.PAGE.sealed if sealed else data / "tor" / "onion" / ONION_KEY
    before = path.read_bytes()
    if not sealed:
        (path.parent / "hostname").write_text(address)
        (path.parent / "hs_ed25519_public_key").write_bytes(b"of the old key")
    with path.open("rb") as still_open:
        assert "give --yes" in wrong(data, "rotate", *given)
        assert before in key_files(data)
        told = onion(data, "rotate", "--yes", *given)
        assert still_open.read() == bytes(len(before)), "the old key is overwritten where it lay"
    [new] = re.findall(r"http://([a-z2-7]{56}\.onion)/", told)
    assert new != address
    assert new in onion(data, "show", *given)
    assert not {before, address.encode(), b"of the old key"} & set(key_files(data))


def test_rotating_a_running_desk_is_refused(tmp_path: Path) -> None:
    address = set_up(tmp_path)
    with DataDirectory(tmp_path):
        assert "Stop it first" in wrong(tmp_path, "rotate", "--yes")
    assert address in onion(tmp_path, "show")


def test_status_says_the_address_and_whether_it_is_published() -> None:
    address = crypto.onion_address(crypto.new_onion_key())
    tor = {"summary": "reachable", "private": {"address": address, "summary": "published, for 1 client"}}
    told: dict[str, Any] = defaultdict(int, tor=tor, xmpp=None)
    assert f"{address} (published, for 1 client)" in in_words(told, now=0)
    for without in (tor | {"private": None}, None):
        told["tor"] = without
        assert "XMPP onion" not in in_words(told, now=0)
