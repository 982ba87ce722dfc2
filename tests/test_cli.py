"""The command line, as a process: what goes wrong is said in two lines, and changes nothing."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.appliance import Appliance, run_command
from tests.live.overhttp import browser_at
from tests.ports import free_port
from veilsupport.config import FILE_NAME


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Appliance]:
    with Appliance(tmp_path / "data", "--no-tor", "--port", str(free_port())) as running:
        running.wait_for_page()
        yield running


def refused(*arguments: str, env: dict[str, str] | None = None, status: int = 2) -> str:
    """What the operator reads; every error has its hint."""
    done = run_command(*arguments, env=env)
    assert done.returncode == status, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert lines
    assert [line.split(": ")[:2] for line in lines] == [["veilsupport", "error"], ["veilsupport", "hint"]] * (
        len(lines) // 2
    )
    return done.stderr


def test_all_that_is_wrong_in_the_file_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('[xmpp]\njid = "x"\nprt = 1\n[[admin]]\njid = "a@b"\n')
    told = refused("run", "--no-tor", "--data", str(tmp_path))
    assert told.count("error:") == 3
    assert "Did you mean port?" in told


def test_without_a_command_it_runs(tmp_path: Path) -> None:
    """Shown by how it fails: this tor is not there, so nothing is dialled."""
    (tmp_path / FILE_NAME).write_text('[tor]\nexecutable = "/nonexistent/tor"\n')
    assert "tor" in refused("run", "--data", str(tmp_path))


def test_two_cannot_run_on_one_directory(appliance: Appliance) -> None:
    assert "Another VeilSupport" in refused("run", "--no-tor", "--data", str(appliance.data))
    assert "Another VeilSupport" in refused("setup", "--name", "x", "--data", str(appliance.data))


def test_taken_port_is_said(appliance: Appliance, tmp_path: Path) -> None:
    port = str(appliance.status()["page"]).rsplit(":", 1)[1].rstrip("/")
    assert "port" in refused("run", "--no-tor", "--port", port, "--data", str(tmp_path / "other"))


def test_a_port_with_tor_is_refused(tmp_path: Path) -> None:
    done = run_command("run", "--port", "8080", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "--no-tor" in done.stderr


def test_status_tells_the_running_truth(appliance: Appliance) -> None:
    asyncio.run(browser_at(str(appliance.status()["page"])).start("hello"))
    done = run_command("status", "--json", "--data", str(appliance.data))
    told = json.loads(done.stdout)
    assert (done.returncode, told["conversations_open"], told["waiting_to_be_delivered"]) == (0, 1, 1)
    assert re.search(r"^Conversations open: +1$", run_command("status", "--data", str(appliance.data)).stdout, re.M)
    assert stat.S_IMODE((appliance.data / "status.sock").stat().st_mode) == 0o600
    appliance.stop()
    assert "Start it with" in refused("status", "--data", str(appliance.data), status=1)


def test_stops_in_time_with_a_stream_open_and_keeps_what_it_has(appliance: Appliance) -> None:
    page = str(appliance.status()["page"])
    browser = browser_at(page)
    asyncio.run(browser.start("remember me"))
    link = http.client.HTTPConnection(page.split("/")[2], timeout=10)
    link.request("GET", "/chat/live", headers={"cookie": browser.cookie})
    stream = link.getresponse()
    assert b"<!doctype html>" in stream.read1()
    assert appliance.stop(seconds=5) == 0
    link.close()
    assert sorted(path.name for path in appliance.data.iterdir()) == ["appliance.key", "lock", "veilsupport.sqlite"]
    appliance.start()
    appliance.wait_for_page()
    assert "remember me" in asyncio.run(browser.get("/chat/latest")).text


def test_set_up_by_flags_is_whole_or_nothing(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path)]
    told = refused(
        "setup", *data, "--jid", "nobody", "--port", "0", "--admin", "also wrong", "--password-file", "/dev/null"
    )
    assert told.count("error:") == 3
    assert not (tmp_path / FILE_NAME).exists()
    assert "password is missing" in refused("setup", *data, "--jid", "desk@chat.example")
    password = {"VEILSUPPORT_XMPP_PASSWORD": "MARKpassword"}
    done = run_command("setup", *data, "--jid", "desk@chat.example", "--admin", "ada@chat.example=Ada", env=password)
    assert done.returncode == 0, done.stderr
    assert 'name = "Ada"' in (tmp_path / FILE_NAME).read_text()
    for file in tmp_path.iterdir():
        assert b"MARKpassword" not in file.read_bytes(), file
    assert run_command("setup", *data, "--name", "Night line").returncode == 0
    text = (tmp_path / FILE_NAME).read_text()
    assert "Night line" in text
    assert "ada@chat.example" in text
    assert "127.0.0.1" in refused("run", "--no-tor", *data)


def test_nothing_to_set_up_is_said(tmp_path: Path) -> None:
    assert "nothing to set" in refused("setup", "--data", str(tmp_path))


def test_passphrase_guards_the_start(tmp_path: Path) -> None:
    data, right, wrong = tmp_path / "data", tmp_path / "right", tmp_path / "wrong"
    right.write_text("open sesame\n")
    wrong.write_text("open barley\n")
    assert run_command("setup", "--data", str(data), "--new-passphrase-file", str(right)).returncode == 0
    start = ("run", "--no-tor", "--data", str(data))
    assert "passphrase" in refused(*start)
    assert "does not open" in refused(*start, "--passphrase-file", str(wrong))
    assert "cannot be read" in refused(*start, "--passphrase-file", str(tmp_path / "none"))
    with Appliance(data, "--no-tor", "--port", str(free_port()), "--passphrase-file", str(right)) as running:
        running.wait_for_page()
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    right.rename(tmp_path / "veilsupport-passphrase")
    assert run_command("setup", "--data", str(data), "--name", "x", env=credentials).returncode == 0


def test_an_unwritable_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be used" in refused("run", "--no-tor", "--data", str(tmp_path / "file" / "data"))
