"""What packaging/ ships beside the executable is as the program is: manual page, service, containers, guide."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from veilsupport.cli.options import _CREDENTIAL

PACKAGING = Path(__file__).resolve().parent.parent / "packaging"
PAGE = PACKAGING / "veilsupport.1"
UNIT = PACKAGING / "veilsupport.service"
GUIDE = PACKAGING / "README.md"


def told(*command: str | Path) -> str:
    """All that it prints; it must end well."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    return done.stdout


# ---- the manual page ---------------------------------------------------------------------------------------------


def test_manual_page_is_as_the_program_says() -> None:
    assert PAGE.read_text("utf-8") == told(PACKAGING / "man", "-"), "run: packaging/man"


def test_manual_page_is_clean_for_both_programs_that_show_such_pages() -> None:
    assert told("mandoc", "-T", "lint", PAGE) == ""
    assert told("man", "--warnings", "-E", "UTF-8", "-l", "-T", "utf8", "-Z", PAGE).count("warning") == 0


def test_manual_page_names_each_command_and_shows_dashes_that_can_be_copied() -> None:
    shown = told("mandoc", "-T", "ascii", PAGE).replace("_\b", "")
    plain = re.sub(r".\x08", "", shown)
    for words in ("veilsupport onion client add NAME", "veilsupport setup", "--passphrase-file FILE", "EXIT STATUS"):
        assert words in plain
    assert "\\-\\-data" in PAGE.read_text("utf-8")


# ---- the service -------------------------------------------------------------------------------------------------


def verified(tmp_path: Path, text: str) -> str:
    """What systemd finds wrong with the unit on a machine where executable and page are installed."""
    unit = tmp_path / "veilsupport.service"
    unit.write_text(text.replace("/usr/local/bin/veilsupport", "/bin/true").replace("man:veilsupport(1)", "man:sh(1)"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    lines = (done.stdout + done.stderr).splitlines()
    # Without a running systemd, or with a kernel that does not tell, it says so; that is not about the unit.
    return "\n".join(line for line in lines if "man:sh" not in line and "'man sh(1)'" not in line)


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    assert verified(tmp_path, UNIT.read_text()) == ""
    assert "Frobnicate" in verified(tmp_path, UNIT.read_text().replace("[Install]", "Frobnicate=yes\n[Install]"))


def test_guide_states_the_score_that_systemd_gives_the_unit(tmp_path: Path) -> None:
    shutil.copy(UNIT, tmp_path)
    found = re.search(r"exposure level for \S+: (\S+)", told("systemd-analyze", "security", "--offline=true", UNIT))
    assert found
    assert float(found[1]) <= 1.5
    assert f"scores {found[1]}" in GUIDE.read_text("utf-8")


def test_unit_names_what_the_program_looks_for() -> None:
    unit = UNIT.read_text()
    assert unit.count(f"={_CREDENTIAL}:") == 2  # from a file, and when there is none
    for line in (
        "RuntimeDirectory=veilsupport",
        "UMask=0077",
        "LimitCORE=0",
        "LimitMEMLOCK=infinity",
        "KillMode=mixed",
        "StandardOutput=null",
    ):
        assert f"\n{line}\n" in unit


# ---- containers --------------------------------------------------------------------------------------------------


def test_containers_publish_no_port_and_get_nothing_but_the_executable_and_prosodys_settings() -> None:
    compose, recipe = (PACKAGING / "compose.yaml").read_text(), (PACKAGING / "Dockerfile").read_text()
    assert "\n    ports:" not in compose
    assert "EXPOSE" not in recipe
    assert recipe.count("\nUSER ") == recipe.count("\nFROM ") == 2
    copied = [word for line in re.findall(r"^COPY (.*)", recipe, re.MULTILINE) for word in line.split()[:-1]]
    sources = {word for word in copied if not word.startswith("--")}
    allowed = set(re.findall(r"^!(.*)", (PACKAGING / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    assert sources == allowed


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "veilsupport.service", "veilsupport.1", "man"])
def test_guide_names_each_file(name: str) -> None:
    assert f"`{name}`" in GUIDE.read_text("utf-8")


def test_guide_is_short_enough_to_be_read() -> None:
    assert len(GUIDE.read_text("utf-8").splitlines()) <= 200
