"""`veilsupport onion`, as its operator meets it; that a running tor takes it at once: live/test_own_server.py."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from nacl.public import PrivateKey

from veilsupport import config, crypto
from veilsupport.cli import cli
from veilsupport.cli_status import _in_words
from veilsupport.config import FILE_NAME
from veilsupport.errors import SetupError, SetupErrors


def onion(data: Path, *words: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(cli, ["onion", *words, "--data", str(data)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return str(done.output)


def wrong(data: Path, *words: str) -> str:
    with pytest.raises(SetupError) as found:
        onion(data, *words)
    problems = found.value.problems if isinstance(found.value, SetupErrors) else (found.value,)
    return "\n".join(f"{each.message} {each.hint}" for each in problems)


def test_a_client_is_named_and_only_the_public_half_of_the_key_is_kept(tmp_path: Path) -> None:
    assert "127.0.0.1:5222" in onion(tmp_path, "xmpp", "--port", "5222")
    told = onion(tmp_path, "client", "add", "ada-phone")
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
    assert onion(tmp_path, "client", "list") == ""
    onion(tmp_path, "client", "add", "ada")
    onion(tmp_path, "client", "add", "bob")
    assert onion(tmp_path, "client", "list").split() == ["ada", "bob"]
    told = onion(tmp_path, "xmpp", "--port", "5223")
    assert "Clients: ada, bob" in told
    assert "Leads to: 127.0.0.1:5223" in told
    assert "known once the desk runs" in told
    assert "is removed" in onion(tmp_path, "client", "remove", "ada")
    assert onion(tmp_path, "client", "list").split() == ["bob"]
    assert onion(tmp_path, "xmpp") == onion(tmp_path, "xmpp")  # looking changes nothing


def test_what_is_wrong_is_said_and_changes_nothing(tmp_path: Path) -> None:
    for words in (["xmpp"], ["client", "list"], ["client", "add", "ada"], ["client", "remove", "ada"]):
        assert "--port 5222" in wrong(tmp_path, *words)
    assert not (tmp_path / FILE_NAME).exists()
    onion(tmp_path, "xmpp", "--port", "5222")
    onion(tmp_path, "client", "add", "ada")
    before = (tmp_path / FILE_NAME).read_text()
    assert "of that name" in wrong(tmp_path, "client", "add", "ada")
    assert "no such client" in wrong(tmp_path, "client", "remove", "bob")
    for name in ("../ada", "Ada", "a b", ".auth", ""):
        assert "1 to 32" in wrong(tmp_path, "client", "add", name)
    assert (tmp_path / FILE_NAME).read_text() == before


def test_status_says_the_address_and_whether_it_is_published() -> None:
    address = crypto.onion_address(crypto.new_onion_key())
    tor = {"summary": "reachable", "private": {"address": address, "summary": "published, for 1 client"}}
    told: dict[str, Any] = defaultdict(int, tor=tor, xmpp=None)
    assert f"XMPP onion: {address} (published, for 1 client)" in _in_words(told)
    for without in (tor | {"private": None}, None):
        told["tor"] = without
        assert "XMPP onion" not in _in_words(told)
