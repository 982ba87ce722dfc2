"""What is inside, and the care of the unpacked directory, in a checkout; the executable itself: tests/live."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live.appliance import run_command
from veilsupport import bundle, resources, unpacked
from veilsupport.bundle import Component

DAY = 86_400


def unpack(parent: Path, name: str, *files: str) -> Path:
    directory = parent / name
    directory.mkdir()
    for file in files:
        (directory / file).touch()
    return directory


# ---- what is inside --------------------------------------------------------------------------------------------


def test_checkout_names_what_the_program_requires_directly_and_through_others() -> None:
    found = {part.name: part for part in bundle.components()}
    assert {"slixmpp", "stem", "Oldmemo"} <= found.keys()
    assert {"pytest", "xmlschema"}.isdisjoint(found)  # the tests' own, the latter by the extra of oldmemo[xml]
    assert found["uvicorn"].licence == "BSD-3-Clause"
    assert all(part.version and part.licence for part in found.values())


def test_the_build_s_list_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [
        Component("tor", "0.4", "GPL", "Debian's", (bundle.TOR,), ("licences/tor.txt",)),
        Component("a", "1", "MIT"),
    ]
    (tmp_path / resources.MANIFEST).write_text(bundle.manifest("0123abcd", parts))
    monkeypatch.setattr(bundle, "IS_BUILT", True)
    monkeypatch.setattr(resources, "_ROOT", tmp_path)
    assert bundle.components() == parts
    assert bundle.commit() == "0123abcd"


def test_bundled_tor_is_used_unless_another_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundle.tor("tor") == ("tor", None)
    monkeypatch.setattr(bundle, "IS_BUILT", True)
    monkeypatch.setattr(resources, "_ROOT", tmp_path)
    assert bundle.tor("tor") == (str(tmp_path / "bin/tor"), str(tmp_path))
    assert bundle.tor("/opt/tor") == ("/opt/tor", None)


def test_version_is_told_as_lines_and_as_json() -> None:
    lines = run_command("version").stdout
    assert re.match(r"VeilSupport \S+, a checkout\ntor: 0\.4\.\S+\n", lines)
    assert "\nstem 1.8" in lines
    told = json.loads(run_command("version", "--json").stdout)
    assert told["commit"] is None
    assert {"name", "version", "licence", "source"} == told["components"][0].keys()


# ---- the unpacked directory ------------------------------------------------------------------------------------


def test_only_what_a_dead_program_of_ours_left_is_removed(tmp_path: Path) -> None:
    unpack(tmp_path, "_MEIleft", resources.MANIFEST, ".veilsupport")
    old = unpack(tmp_path, "_MEIold", resources.MANIFEST)
    os.utime(old, (time.time() - DAY,) * 2)
    kept = [
        unpack(tmp_path, "_MEIforeign", ".veilsupport"),
        unpack(tmp_path, "_MEIyoung", resources.MANIFEST),
        unpack(tmp_path, "other", resources.MANIFEST, ".veilsupport"),
    ]
    held = unpack(tmp_path, "_MEIheld", resources.MANIFEST)
    lock = unpacked.occupy(held)
    (tmp_path / "_MEIlink").symlink_to(kept[2])
    try:
        unpacked.remove_stale(tmp_path)
        assert set(tmp_path.iterdir()) == {*kept, held, tmp_path / "_MEIlink"}
    finally:
        os.close(lock)
    unpacked.remove_stale(tmp_path)
    assert not held.exists()


def test_children_get_no_library_path_and_no_state_of_the_outer_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/unpacked")
    monkeypatch.setenv("_PYI_APPLICATION_HOME_DIR", "/unpacked")
    unpacked.clean_environment()
    assert "/unpacked" not in os.environ.values()
    monkeypatch.setenv("LD_LIBRARY_PATH", "/unpacked")
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/theirs")
    unpacked.clean_environment()
    assert os.environ["LD_LIBRARY_PATH"] == "/theirs"


def test_child_gets_sigterm_when_its_parent_is_gone() -> None:
    child = (
        "import time; from veilsupport import hardening;"
        "hardening.end_with_parent(); print('ready', flush=True); time.sleep(20)"
    )
    parent = (
        "import subprocess, sys;"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE);"
        "child.stdout.readline(); print(child.pid, flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=resources.path("")
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        watched = os.pidfd_open(pid)
        process.kill()
    with os.fdopen(watched):
        assert select.select([watched], [], [], 10)[0] == [watched]
