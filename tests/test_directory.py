"""The data directory: ours alone, one process at a time, and a key that is never made anew over a database."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from veilsupport import config, controlsocket, crypto, directory
from veilsupport.controlsocket import STATUS_SOCKET
from veilsupport.crypto import ApplianceKey
from veilsupport.directory import ONION_KEY, DataDirectory, Onion
from veilsupport.errors import SetupError
from veilsupport.model import Private


def no_passphrase() -> Private | None:
    return None


def test_a_new_directory_is_ours_alone_and_has_a_key(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as house:
        assert house.is_new
        key = house.key(no_passphrase)
        for path in house.path.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE(house.path.stat().st_mode) == 0o700
    with DataDirectory(tmp_path / "data") as house:
        assert not house.is_new
        assert house.key(no_passphrase) == key


def test_an_open_directory_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with DataDirectory(tmp_path):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with DataDirectory(tmp_path), pytest.raises(SetupError, match="Another VeilSupport"):
        DataDirectory(tmp_path).__enter__()
    with DataDirectory(tmp_path):
        pass


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(SetupError, match="cannot be used"):
        DataDirectory(tmp_path / "data").__enter__()


def test_no_new_key_is_made_over_an_existing_database(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as house:
        house.database.touch()
        with pytest.raises(SetupError, match="key is missing"):
            house.key(no_passphrase)


def test_passphrase_is_asked_only_when_it_is_needed(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as house:
        key = house.key(no_passphrase)
        house.keep_key(key, Private("open sesame"))
        with pytest.raises(SetupError, match="passphrase"):
            house.key(no_passphrase)
        assert house.key(lambda: Private("open sesame")) == key
        house.keep_key(key, None)
        assert house.key(no_passphrase) == key


@pytest.mark.parametrize("service", Onion)
def test_under_a_passphrase_the_onion_key_rests_sealed_and_is_used_from_memory(service: Onion, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with DataDirectory(data) as house:
        key = house.key(no_passphrase)
        plain = house.onion(service, key)
        assert plain.is_relative_to(data)
        assert stat.S_IMODE(plain.stat().st_mode) == 0o700
        secret = (plain / ONION_KEY).read_bytes()
        assert house.onion(service, key) == plain
        assert (plain / ONION_KEY).read_bytes() == secret
        house.keep_key(key, Private("open sesame"))
        assert not plain.exists()
    with DataDirectory(data) as house:
        used = house.onion(service, key)
        assert not used.is_relative_to(data)
        assert (used / ONION_KEY).read_bytes() == secret
        assert stat.S_IMODE(used.stat().st_mode) == 0o700
        for file in data.rglob("*"):
            assert file.is_dir() or secret not in file.read_bytes()
    assert not used.exists()
    with DataDirectory(data) as house:
        house.keep_key(key, None)
        assert (house.onion(service, key) / ONION_KEY).read_bytes() == secret
        assert not (data / service.sealed).exists()


def test_a_passphrase_from_the_first_day_makes_a_sealed_onion_key(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as house:
        key = house.key(no_passphrase)
        house.keep_key(key, Private("open sesame"))
        first = (house.onion(Onion.PAGE, key) / ONION_KEY).read_bytes()
        assert len(first) == 96
    with DataDirectory(tmp_path / "data") as house:
        assert (house.onion(Onion.PAGE, key) / ONION_KEY).read_bytes() == first
        with pytest.raises(SetupError, match="does not open"):
            house.onion(Onion.PAGE, ApplianceKey(b"o" * 32))


def test_each_onion_service_has_a_key_of_its_own(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as house:
        key = house.key(no_passphrase)
        house.keep_key(key, Private("open sesame"))
        page, xmpp = (house.onion(service, key) for service in Onion)
        assert (page / ONION_KEY).read_bytes() != (xmpp / ONION_KEY).read_bytes()
        (house.path / Onion.XMPP.sealed).write_bytes((house.path / Onion.PAGE.sealed).read_bytes())
        with pytest.raises(SetupError, match="does not open"):  # one cannot be put in the other's place
            house.onion(Onion.XMPP, key)


def test_what_another_program_saved_meanwhile_is_not_lost(tmp_path: Path) -> None:
    data = tmp_path / "data"
    directory.change_settings(data, lambda before: config.check(before.model_dump() | {"desk": {"name": "Night"}}))
    after = directory.change_settings(data, lambda before: config.check(before.model_dump() | {"web": {"port": 81}}))
    assert (after.desk.name, after.web.port) == ("Night", 81)
    assert config.load(data) == after
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot be made"):
        directory.change_settings(tmp_path / "file" / "data", lambda before: before)


def test_onion_address_is_the_one_that_tor_computes() -> None:
    """The secret half of RFC 8032's first test vector, as tor keeps it; rend-spec-v3 §6 gives the address."""
    key = crypto.ONION_HEAD + bytes.fromhex(
        "307c83864f2833cb427a2ef1c00a013cfdff2768d980c0a3a520f006904de94f" + "00" * 32
    )
    address = crypto.onion_address(key)
    assert len(address) == 62
    public = base64.b32decode(address.removesuffix(".onion").upper())
    assert public[:32].hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert public[34:] == b"\x03"


# ---- asking the one that runs ----------------------------------------------------------------------------------------


def test_nobody_there_is_told_from_no_answer(tmp_path: Path) -> None:
    assert controlsocket.ask(tmp_path, "status") is None
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / STATUS_SOCKET))
        assert controlsocket.ask(tmp_path, "status") is None  # left behind by one that was killed
        silent.listen()
        with pytest.raises(SetupError, match="has not answered"):
            controlsocket.ask(tmp_path, "status", seconds=0.05)


@contextlib.contextmanager
def shut_out_of(path: Path) -> Iterator[None]:
    """As a user who may not enter it. Root, whom no mode shuts out, becomes another one for the while."""
    path.chmod(0)
    uid = os.geteuid()
    try:
        os.seteuid(uid or 65534)
        yield
    finally:
        os.seteuid(uid)
        path.chmod(0o700)


def test_where_one_may_not_look_it_is_not_said_that_nobody_is_there(tmp_path: Path) -> None:
    with shut_out_of(tmp_path), pytest.raises(SetupError, match="another user"):
        controlsocket.ask(tmp_path, "status")


def test_not_even_root_leaves_a_file_in_a_directory_of_another_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away, and could leave a file in it")
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(SetupError, match="another user"):
        DataDirectory(tmp_path).__enter__()
    with pytest.raises(SetupError, match="another user"):
        directory.change_settings(tmp_path, lambda before: before)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_cut_short_is_no_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as half:
        half.bind(str(tmp_path / STATUS_SOCKET))
        half.listen()

        def answer() -> None:
            link, _ = half.accept()
            link.recv(99)
            link.sendall(b'{"done": tr')
            link.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SetupError, match="has not answered"):
            controlsocket.ask(tmp_path, "desk burn heron-42")
        thread.join()
