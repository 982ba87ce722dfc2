"""From the settings' clients to tor's, and the one that nobody is told of: our own tor."""

from __future__ import annotations

import base64
from pathlib import Path

from nacl.public import PrivateKey

from veilsupport import config, crypto, onions
from veilsupport.config import Config
from veilsupport.tor import OURSELVES, Client

KEY = crypto.new_onion_key()
ADA = onions.base32(crypto.new_key_pair().public)


def settings(text: str) -> Config:
    return config.parse(text)


def test_page_without_clients_is_for_everybody() -> None:
    assert onions.page_clients(Config(), KEY) == ()


def test_our_own_tor_is_a_client_of_a_private_page_and_has_its_key() -> None:
    mine = settings(f'[onion]\nclient = [{{ name = "ada", key = "{ADA}" }}]\n')
    ada, ours = onions.page_clients(mine, KEY)
    access = onions.access(KEY)
    assert ada == Client("ada", ADA)
    assert ours.name == OURSELVES
    assert base64.b32decode(ours.key + "====") == bytes(PrivateKey(access.key).public_key)
    assert access.address == crypto.onion_address(KEY)


def test_access_is_the_same_on_a_restored_machine_and_another_for_another_key() -> None:
    assert onions.access(KEY) == onions.access(bytes(KEY))
    assert onions.access(crypto.new_onion_key()).key != onions.access(KEY).key
    assert onions.access(KEY).key not in KEY


def test_private_service_has_its_own_clients_only(tmp_path: Path) -> None:
    mine = settings(f'[xmpp_onion]\nport = 15222\nclient = [{{ name = "ada", key = "{ADA}" }}]\n')
    assert mine.xmpp_onion is not None
    service = onions.private_service(mine.xmpp_onion, tmp_path, KEY)
    assert service.clients == (Client("ada", ADA),)
    assert (service.address, service.onion_port, service.local_port) == (crypto.onion_address(KEY), 5222, 15222)
    assert onions.page_clients(mine, KEY) == ()


def test_a_client_publishes_nothing_and_goes_by_the_operators_lines(tmp_path: Path) -> None:
    mine = settings('[tor]\nlines = ["UseBridges 0"]\n')
    client, reaching = onions.client_tor(mine, tmp_path), onions.client_tor(mine, tmp_path, onions.access(KEY))
    assert (client.directory, client.onion, client.private, client.access) == (tmp_path, None, None, None)
    assert client.torrc_lines == mine.tor.lines
    assert reaching.access == onions.access(KEY)
