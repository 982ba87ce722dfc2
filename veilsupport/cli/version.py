"""The command line's `version`: what this program is made of, under which licences, and where the sources are."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict

import click

import veilsupport
from veilsupport import bundle, resources
from veilsupport.bundle import Component

_SECONDS = 10  # for `tor --version`


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
@click.option("--licences", is_flag=True, help="Print the texts of the licences, each once.")
def version(as_json: bool, licences: bool) -> None:
    """Versions and licences of everything inside, and where the sources are."""
    parts = bundle.components()
    if as_json:
        click.echo(json.dumps(_document(parts), indent=2))
    elif licences:
        click.echo_via_pager(_texts(parts))
    else:
        click.echo("\n".join(_lines(parts)))


def _document(parts: list[Component]) -> dict[str, object]:
    told = [{key: value for key, value in asdict(part).items() if key not in {"files", "texts"}} for part in parts]
    return {"version": veilsupport.__version__, "commit": bundle.commit(), "tor": _tor(parts), "components": told}


def _lines(parts: list[Component]) -> list[str]:
    commit = bundle.commit()
    lines = [f"VeilSupport {veilsupport.__version__}" + (f", built from commit {commit}" if commit else ", a checkout")]
    lines += [f"tor: {_tor(parts)}", ""]
    for part in parts:
        lines.append(f"{part.name} {part.version}: {part.licence}")
        lines += [f"    source: {part.source}"] if part.source else []
    where = "veilsupport version --licences" if resources.IS_BUILT else "beside each package, where pip has put it"
    return [*lines, "", f"The texts of the licences: {where}"]


def _texts(parts: list[Component]) -> str:
    """Each text once, under the names of all parts that it is for."""
    parts_of: dict[str, list[str]] = {}
    for part in parts:
        for text in part.texts:
            parts_of.setdefault(text, []).append(part.name)
    if not parts_of:
        return resources.text("LICENSE") + "\n" + "\n".join(_lines(parts)) + "\n"
    rule = "=" * 72
    heads = {text: f"{rule}\n{', '.join(names)}\n{rule}\n" for text, names in parts_of.items()}
    return "\n".join(f"{head}\n{resources.text(text)}" for text, head in heads.items())


def _tor(parts: list[Component]) -> str:
    """The bundled tor's version; in a checkout that of the installed one, as it says itself."""
    for part in parts:
        if bundle.TOR in part.files:
            return part.version
    found = shutil.which("tor", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        return "not installed"
    try:
        asked = [found, "--version"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=_SECONDS, env={}, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "cannot be started"
    return told.partition("\n")[0].removeprefix("Tor version ").rstrip(".")
