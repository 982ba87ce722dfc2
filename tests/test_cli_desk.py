"""`veilsupport desk`, as its operator meets it, and what a running desk takes from its settings by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.live.appliance import Appliance
from tests.live.overhttp import browser_at
from tests.ports import free_port
from veilsupport import config, controlsocket, people
from veilsupport.cli import cli
from veilsupport.cli.desk import _LINE_MAX_BYTES
from veilsupport.config import FILE_NAME
from veilsupport.model import Admin, EndToEnd, Private, Role

SETTINGS = """
[desk]
hours = "9-17"
away = "Back soon."
typing = false

[[admin]]
jid = "ada@chat.example"
name = "Ada"

[[admin]]
jid = "bert@chat.example"
name = "Bert"
role = "answers"
roles = { shop = "none", "" = "reads" }
omemo = "require"
notify_only = true

[[site]]
name = "shop"
title = "The Shop"
hours = "always"
typing = true
"""


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Appliance]:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / FILE_NAME).write_text(SETTINGS)
    with Appliance(data, "--no-tor", "--port", str(free_port())) as running:
        running.wait_for_page()
        yield running


def desk(data: Path, *words: str) -> tuple[int, str]:
    """In this process: exit status, and what is printed."""
    done = CliRunner().invoke(cli, ["desk", "--data", str(data), *words])
    return done.exit_code, str(done.output)


def test_operator_tells_the_running_desk(appliance: Appliance) -> None:
    assert desk(appliance.data, "list") == (0, "No conversation is open.\n")
    asyncio.run(browser_at(str(appliance.status()["page"])).start("hello"))
    alias = desk(appliance.data, "list")[1].split(",")[0]
    assert desk(appliance.data, "close", alias) == (0, f"{alias} is closed.\n")
    assert desk(appliance.data, "!reopen", alias) == (0, f"{alias} is reopened.\n")
    assert desk(appliance.data, "assign", alias, "ada") == (0, f"{alias} is Ada's now.\n")
    assert "Ada: not to be seen from here, 1 open" in desk(appliance.data, "who")[1]
    assert desk(appliance.data, "canned") == (0, "There are no canned answers. !canned add NAME TEXT keeps one.\n")
    assert "close heron-42" in desk(appliance.data)[1]  # nothing at all is help


def test_what_was_not_done_is_said_in_two_lines_with_status_1(appliance: Appliance) -> None:
    for words, told in (
        (["clsoe"], "Did you mean"),
        (["say", "a-1", "x"], "only in a chat"),
        (["canned", "add", "hello", "two\nlines – “so”"], "only in a chat"),
        (["close", "qq-1"], "no conv"),
    ):
        status, output = desk(appliance.data, *words)
        assert status == 1
        assert told in output
        assert [line.split(": ")[1] for line in output.splitlines()] == ["error", "hint"]
    assert desk(appliance.data, "canned", "add", "x", "x" * _LINE_MAX_BYTES)[0] not in (0, 1)


def test_nothing_is_done_where_nothing_runs(tmp_path: Path) -> None:
    status, output = desk(tmp_path, "list")
    assert status == 1
    assert "nothing was done" in output
    assert "veilsupport run" in output


# ---- settings into parts ---------------------------------------------------------------------------------------------


def test_admins_as_the_settings_name_them() -> None:
    assert people.admins_of(config.parse(SETTINGS)) == (
        Admin("Ada", Private("ada@chat.example")),
        Admin(
            "Bert",
            Private("bert@chat.example"),
            Role.NONE,
            (("", Role.READS), ("shop", Role.NONE)),
            EndToEnd.REQUIRE,
            True,
        ),
    )


def test_a_site_that_is_no_more_is_nobodys_who_was_shut_out_of_any() -> None:
    """Its conversations stay, and must not come to those who were never to see them."""
    roles = """role = "leads"\nroles = { clinic = "answers", shop = "reads" }"""
    settings = SETTINGS.replace('role = "answers"\nroles = { shop = "none", "" = "reads" }', roles)
    ada, bert = people.admins_of(config.parse(settings))
    assert [ada.role_at(site) for site in ("", "shop", "clinic", "gone")] == [Role.LEADS] * 4
    assert [bert.role_at(site) for site in ("", "shop")] == [Role.LEADS, Role.READS]
    assert bert.role_at("clinic") is Role.ANSWERS  # no site of that name is there, but the settings still say it
    assert bert.role_at("gone") is Role.READS
    without_shop = config.parse(settings[: settings.index("[[site]]")])
    assert people.admins_of(without_shop)[1].role_at("shop") is Role.READS
    shut_out = config.parse(settings.replace('"reads"', '"none"'))
    assert people.admins_of(shut_out)[1].role_at("gone") is Role.NONE


def test_a_site_has_the_manners_of_the_desk_where_it_has_none_of_its_own() -> None:
    sites = people.sites_of(config.parse(SETTINGS))
    own, shop = sites[""], sites["shop"]
    assert (own.hours, own.away, own.typing, own.read_marks) == ("9-17", "Back soon.", False, True)
    assert (shop.hours, shop.away, shop.typing, shop.read_marks) == ("always", "Back soon.", True, True)


def test_a_running_desk_takes_other_admins_and_sites(appliance: Appliance) -> None:
    assert "Bert" in desk(appliance.data, "who")[1]
    changed = SETTINGS.replace("Bert", "Cleo").replace("bert@", "cleo@").replace('"always"', '"mon 9-10"')
    (appliance.data / FILE_NAME).write_text(changed)
    assert controlsocket.ask(appliance.data, "reload") == {"sites": ["", "shop"]}
    assert [line.split(":")[0] for line in desk(appliance.data, "who")[1].splitlines()] == ["Ada", "Cleo"]
    assert "shop: mon 9:00-10:00 UTC" in desk(appliance.data, "hours")[1]


def test_setting_admins_anew_keeps_what_they_may_do(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(SETTINGS)
    done = CliRunner().invoke(cli, ["setup", "--data", str(tmp_path), "--admin", "BERT@chat.example=Bertha"])
    assert done.exit_code == 0, done.output
    [bertha] = config.load(tmp_path).admin
    assert (bertha.name, bertha.role, bertha.omemo, bertha.notify_only) == ("Bertha", "answers", "require", True)
