"""The data directory: ours alone, one process at a time, and a key that is never made anew over a database."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from veilsupport import crypto
from veilsupport.crypto import ApplianceKey
from veilsupport.directory import ONION_KEY, DataDirectory
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


def test_under_a_passphrase_the_onion_key_rests_sealed_and_is_used_from_memory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with DataDirectory(data) as house:
        key = house.key(no_passphrase)
        plain = house.onion(key)
        assert plain.is_relative_to(data)
        plain.mkdir(parents=True)
        secret = crypto.new_onion_key()
        (plain / ONION_KEY).write_bytes(secret)
        house.keep_key(key, Private("open sesame"))
        assert not plain.exists()
    with DataDirectory(data) as house:
        used = house.onion(key)
        assert not used.is_relative_to(data)
        assert (used / ONION_KEY).read_bytes() == secret
        assert stat.S_IMODE(used.stat().st_mode) == 0o700
        for file in data.rglob("*"):
            assert file.is_dir() or secret not in file.read_bytes()
    assert not used.exists()
    with DataDirectory(data) as house:
        house.keep_key(key, None)
        assert (house.onion(key) / ONION_KEY).read_bytes() == secret


def test_a_passphrase_from_the_first_day_makes_a_sealed_onion_key(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as house:
        key = house.key(no_passphrase)
        house.keep_key(key, Private("open sesame"))
        first = (house.onion(key) / ONION_KEY).read_bytes()
        assert len(first) == 96
    with DataDirectory(tmp_path / "data") as house:
        assert (house.onion(key) / ONION_KEY).read_bytes() == first
        with pytest.raises(SetupError, match="does not open"):
            house.onion(ApplianceKey(b"o" * 32))
