"""`status`: the words, the stable names of its document, and the exit status by which a health check goes."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.live.appliance import Appliance, run_command
from tests.ports import free_ports
from tests.test_metrics import WELL
from veilsupport import controlsocket
from veilsupport.alarms import DISK_LOW_BYTES
from veilsupport.cli.status import in_words, span
from veilsupport.config import FILE_NAME

NAMES = (
    "version versions uptime_seconds ready parts page reachable_since tor xmpp mode trouble pressed_by admins"
    " conversations_open waiting_to_be_delivered oldest_waiting_seconds pages_open streams_open sockets_open rooms"
    " disk_free_bytes database_bytes"
)


def words(**change: Any) -> dict[str, str]:
    """Name → words, of a desk that is well but for this."""
    told = json.loads(json.dumps(replace(WELL, **change).status()))
    lines = in_words(told, now=WELL.now).splitlines()
    assert len({len(re.split(r"(?<=:) +", line)[0]) + len(re.findall(r": +", line)[0]) for line in lines}) == 1
    return {name: said.strip() for name, _, said in (line.partition(":") for line in lines)}


def test_a_desk_that_is_well_says_so_in_few_words() -> None:
    said = words()
    assert said["Ready"] == "yes"
    assert said["Page"] == WELL.page
    assert re.fullmatch(r"for 0 min, since \d{4}-\d\d-\d\d \d\d:\d\d", said["Reachable"])
    assert said["OMEMO"] == "xmpp:desk@chat.example?omemo-sid-1=aa"
    assert said["Mode"] == "rooms, passphrase, archive off"
    assert said["Waiting to be delivered"] == "1, the oldest for 2 min"
    assert said["Versions"] == "tor 0.4.8.16, SQLite 3.45, Python 3.11"
    assert said["Disk"] == "8.0 GB free; the database has 1.0 MB"
    assert "Trouble" not in said


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"line_is_up": False}, "no: XMPP"),
        ({"store_keeps": False, "disk_free_bytes": DISK_LOW_BYTES - 1}, "no: database, disk"),
        ({"web_is_up": False}, "no: web server"),
    ],
)
def test_what_is_not_ready_is_named(change: Mapping[str, Any], named: str) -> None:
    assert words(**change)["Ready"] == named


def test_what_is_not_there_is_not_shown() -> None:
    said = words(tor=None, reachable_since=None, xmpp=None, page=None, oldest_due_at=None, backlog=0)
    assert (said["Tor"], said["XMPP"], said["Page"]) == ("not used", "not set up", "not there yet")
    assert {"Reachable", "OMEMO", "Visitors appear as"}.isdisjoint(said)
    assert said["Waiting to be delivered"] == "0"


def test_trouble_is_told_each_on_its_line() -> None:
    told = WELL.status() | {"trouble": ["The disk is full.", "Nobody answers."]}
    assert in_words(told, now=0).count("Trouble:") == 2


def test_an_older_desk_is_understood_after_an_upgrade() -> None:
    old = ("version", "page", "tor", "xmpp", "trouble", "admins", "conversations_open", "waiting_to_be_delivered")
    told = {name: value for name, value in WELL.status().items() if name in (*old, "pages_open")}
    assert "Ready" not in in_words(told, now=0)


def test_the_document_has_the_names_that_programs_rely_on() -> None:
    assert sorted(WELL.status()) == sorted(NAMES.split())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 min"), (-5, "0 min"), (7199, "119 min"), (7200, "2 h"), (172_799, "47 h"), (172_800, "2 days")],
)
def test_spans_are_said_as_one_says_them(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_exit_status_tells_well_from_not_ready_from_not_running(tmp_path: Path) -> None:
    data = tmp_path / "data"
    page, health, nobody = free_ports(3)
    password = {"VEILSUPPORT_XMPP_PASSWORD": "secret"}
    made = run_command(
        *("setup", "--data", str(data), "--jid", "desk@chat.example", "--host", "127.0.0.1"),
        *("--port", str(nobody), "--admin", "ada@chat.example=Ada"),
        env=password,
    )
    assert made.returncode == 0, made.stderr
    status = ("status", "--data", str(data))
    assert run_command(*status).returncode == 1
    settings = (data / FILE_NAME).read_text()
    with Appliance(data, "--no-tor", "--port", str(page), "--health-port", str(health)) as appliance:
        appliance.wait_for_page()
        done = run_command(*status)
        assert done.returncode == 3, done.stdout + done.stderr
        assert re.search(r"^Ready: +no: XMPP$", done.stdout, re.M)
        as_json = run_command(*status, "--json")
        assert (as_json.returncode, json.loads(as_json.stdout)["ready"]) == (3, False)
        numbers = run_command(*status, "--metrics")
        assert numbers.returncode == 0
        assert "\nveilsupport_ready 0.0\n" in numbers.stdout
        assert "desk@" not in numbers.stdout
        assert controlsocket.ask(data, "live") == {"live": True}
        ready = controlsocket.ask(data, "ready")
        assert ready
        assert not ready["ready"]
        link = http.client.HTTPConnection("127.0.0.1", health, timeout=5)
        link.request("GET", "/ready")
        assert link.getresponse().status == 503
        link.close()
        appliance.stop()
    (data / FILE_NAME).write_text(re.sub(r"\[xmpp\].*?(?=\[\[|\Z)", "", settings, flags=re.S))
    with Appliance(data, "--no-tor", "--port", str(page)) as appliance:
        appliance.wait_for_page()
        done = run_command(*status)
        assert done.returncode == 0, done.stdout + done.stderr
