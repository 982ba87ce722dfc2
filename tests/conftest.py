"""How the tests part among several processes: what shares a server or a network stays together, the long goes first."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not hasattr(config, "workerinput"):  # all in one process: in the files' order
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=_turn)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under its own name, as it is given to pytest again; xdist has added the group's."""
    report = yield
    report.nodeid = report.nodeid.removesuffix(f"@{_group(item)}")
    return report


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As pytest's, but short: a unix socket's path has to fit into 107 bytes, and workers have longer ones."""
    return tmp_path_factory.mktemp("t")


def _group(item: pytest.Item) -> str:
    """One private Tor network is enough; a file's tests against one kind of XMPP server share that server."""
    if "tornet" in getattr(item, "fixturenames", ()):
        return "tor"
    server = _parameters(item).get("server")
    return f"{item.path.stem}-{server.__name__}" if isinstance(server, type) else item.path.stem


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


def _turn(item: pytest.Item) -> int:
    """Live tests take long, so a short one is what all wait for at the end; the longest group goes before all."""
    if _group(item) == "tor":
        return 0
    return 1 if item.path.parent.name == "live" else 2
