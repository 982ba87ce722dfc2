"""`veilsupport site`, as its operator meets it: beside a running appliance, and without one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import printed, refusal
from tests.live.appliance import Appliance
from tests.live.overhttp import browser_at
from tests.ports import free_port
from tests.test_cli import refused
from veilsupport import config, controlsocket
from veilsupport.config import FILE_NAME

SHOP = ("--title", "The Shop", "--origin", "https://shop.example")


def site(command: str, data: Path, *arguments: str) -> str:
    return printed("site", command, "--data", str(data), *arguments)


def wrong(command: str, data: Path, *arguments: str) -> str:
    return refusal("site", command, "--data", str(data), *arguments)


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Appliance]:
    with Appliance(tmp_path / "data", "--no-tor", "--port", str(free_port())) as running:
        running.wait_for_page()
        yield running


def test_what_is_set_to_nothing_is_told_from_what_is_not_set(tmp_path: Path) -> None:
    site("add", tmp_path, "shop", *SHOP)
    assert "typing: (the desk’s own)\n" in site("show", tmp_path, "shop")
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write("typing = false\nretention_days = 0\n")  # the last section is the site's
    shown = site("show", tmp_path, "shop")
    assert "typing: False\n" in shown
    assert "retention_days: 0\n" in shown


def test_a_running_desk_takes_sites_at_once(appliance: Appliance) -> None:
    browser = browser_at(str(appliance.status()["page"]))

    def status() -> int:
        return asyncio.run(browser.get("/s/shop")).status

    assert status() == 404
    assert "is added" in site("add", appliance.data, "shop", *SHOP)
    assert status() == 200
    assert "is changed" in site("add", appliance.data, "shop", "--greeting", "Ask us.", "--accent", "#ff8800")
    assert "Ask us." in asyncio.run(browser.get("/s/shop")).text
    assert str(appliance.status()["page"]) + "s/shop" in site("show", appliance.data, "shop")
    site("remove", appliance.data, "shop")
    assert status() == 404
    assert controlsocket.ask(appliance.data, "nonsense") == {
        "error": "The running VeilSupport does not know this.",
        "hint": "Restart it: it is another version.",
    }


def test_what_a_running_desk_cannot_take_is_said(appliance: Appliance) -> None:
    (appliance.data / FILE_NAME).write_text("[desk\n")
    told = controlsocket.ask(appliance.data, "reload")
    assert told is not None
    assert "not valid TOML" in told["error"]
    assert "not valid TOML" in refused("site", "add", "shop", *SHOP, "--data", str(appliance.data))


def test_without_a_running_desk_the_file_is_changed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert "There are no sites" in site("list", data)
    site("add", data, "shop", *SHOP, "--language", "fa", "--language", "en")
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert site("list", data).split() == ["shop", "The", "Shop", "https://shop.example"]
    shown = site("show", data, "shop")
    for part in ("languages: fa, en", "greeting: (the desk’s own)", "/s/shop/start", "/badge/shop.png", "/embed/shop"):
        assert part in shown
    site("add", data, "clinic", "--title", "The Clinic")
    assert "no origin is listed" in site("show", data, "clinic")
    site("add", data, "shop", "--origin", "")  # none is trusted any more
    assert config.load(data).site[0].origins == ()
    site("remove", data, "shop")
    assert [each.name for each in config.load(data).site] == ["clinic"]


def test_what_is_wrong_is_said_and_changes_nothing(tmp_path: Path) -> None:
    told = wrong("add", tmp_path, "shop", "--origin", "https://shop.example/page", "--accent", "orange")
    assert len(told.splitlines()) == 3  # the title is missing, too
    assert "#rrggbb" in told
    assert "1 to 32" in wrong("add", tmp_path, "Shop!", "--title", "x")
    for command in ("show", "remove"):
        assert "no such site" in wrong(command, tmp_path, "shop")
    (tmp_path / "file").write_text("")
    assert "cannot be made" in wrong("add", tmp_path / "file" / "data", "shop", *SHOP)
    assert not (tmp_path / FILE_NAME).exists()


def test_two_operators_at_once_lose_nothing(tmp_path: Path) -> None:
    names = [f"site-{number}" for number in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: site("add", tmp_path, name, "--title", name), names))
    assert sorted(each.name for each in config.load(tmp_path).site) == names
