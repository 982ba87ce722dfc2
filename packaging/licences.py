"""Whose is every file in the executable, and where is its licence? Used by veilsupport.spec while it builds.

Gives the list of parts (`veilsupport version` reads it) and one text for each. A library whose owner or licence is
not known here ends the build: nothing is shipped without one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Final, TypeAlias

import veilsupport
from veilsupport import bundle
from veilsupport.bundle import Component

Toc: TypeAlias = list[tuple[str, str, str]]  # PyInstaller's: name in the bundle, file here, kind

TOP: Final = Path(__file__).resolve().parent.parent
COMMON: Final = Path("/usr/share/common-licenses")  # what Debian's copyright files refer to
_TEXT: Final = re.compile(r"(licen[cs]e|copying|notice)", re.IGNORECASE)

# By Debian's source package. The whole truth is in the texts; this is the licence of what we take of it.
DEBIAN: Final = {
    "bzip2": "bzip2-1.0.6",
    "expat": "MIT",
    "gcc-12": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "gcc-14": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libcap2": "BSD-3-Clause OR GPL-2.0-only",
    "libevent": "BSD-3-Clause",
    "libffi": "MIT",
    "libgcrypt20": "LGPL-2.1-or-later",
    "libgpg-error": "LGPL-2.1-or-later",
    "libseccomp": "LGPL-2.1-only",
    "libzstd": "BSD-3-Clause OR GPL-2.0-only",
    "lz4": "BSD-2-Clause",
    "mpdecimal": "BSD-2-Clause",
    "openssl": "Apache-2.0",
    "python3.11": "PSF-2.0",
    "python3.12": "PSF-2.0",
    "python3.13": "PSF-2.0",
    "sqlite3": "blessing",  # public domain
    "systemd": "LGPL-2.1-or-later",
    "tor": "GPL-3.0-or-later",  # BSD-3-Clause by itself; Debian builds it with --enable-gpl
    "xz-utils": "0BSD",  # liblzma; public domain in older ones
    "zlib": "Zlib",
}
# Compiled into a Python package: its name, its licence, and texts beyond the package's own.
WITHIN: Final = {
    "argon2-cffi-bindings": [("Argon2 reference implementation", "CC0-1.0 OR Apache-2.0", ("CC0-1.0", "Apache-2.0"))],
    "cffi": [("libffi", "MIT", ("libffi",))],
    "cryptography": [("OpenSSL", "Apache-2.0", ("Apache-2.0",)), ("Rust crates", "MIT OR Apache-2.0", ("Apache-2.0",))],
    "httptools": [("llhttp", "MIT", ())],
    "PyNaCl": [("libsodium", "ISC", ())],
    "pydantic_core": [("Rust crates", "MIT OR Apache-2.0", ("Apache-2.0",))],
    "XEdDSA": [("libxeddsa", "MIT", ()), ("libsodium", "ISC", ("libsodium",))],
}
# Texts that another package or Debian's documentation has.
BORROWED: Final = {"libffi": "libffi8", "libsodium": "PyNaCl"}


class Unknown(SystemExit):
    """Ends the build."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"packaging/build: error: {message}\npackaging/build: hint: {hint}")


def collect(toc: Toc, *, commit: str, into: Path) -> Toc:
    """Write manifest and texts into the directory; what of them goes into the bundle."""
    parts = _Parts(into)
    parts.add(_project(commit), [TOP / "LICENSE"])
    parts.add(Component("EFF word list", "2016", "CC-BY-3.0"), [TOP / "veilsupport/words.README"])
    pyinstaller = metadata.distribution("pyinstaller")
    parts.add(replace(bundle.described(pyinstaller), name="PyInstaller's start"), _texts_of(pyinstaller))
    toc = [entry for entry in toc if entry[2] != "SYMLINK" and not _is_ours(entry[1])]
    owners = _Owners(toc)
    for name, file, kind in sorted(toc):
        component, texts = owners.of(file)
        parts.add(component, texts, file=name if kind in {"BINARY", "EXTENSION"} else None)
    return parts.write(commit)


def _project(commit: str) -> Component:
    source = f"the repository it was built from, at commit {commit}"
    return Component("VeilSupport", veilsupport.__version__, "AGPL-3.0-or-later", source)


def _is_ours(file: str) -> bool:
    path = Path(os.path.normpath(file))
    return file in {"", "-"} or (path.is_relative_to(TOP) and ".venv" not in path.parts and "build" not in path.parts)


class _Parts:
    """The parts so far, by name, and the texts beside them."""

    def __init__(self, into: Path) -> None:
        self._into = into
        self._parts: dict[str, Component] = {}
        self._texts: dict[str, list[Path]] = {}

    def add(self, part: Component, texts: Iterable[Path], *, file: str | None = None) -> None:
        known = self._parts.setdefault(part.name, part)
        if file is not None:
            self._parts[part.name] = replace(known, files=(*known.files, file))
        kept = self._texts.setdefault(part.name, [])
        kept += [text for text in texts if text not in kept]

    def write(self, commit: str) -> Toc:
        toc: Toc = []
        parts = []
        for part in sorted(self._parts.values(), key=lambda part: part.name.lower()):
            names = []
            for name, text in _named(part.name, self._texts[part.name]):
                (self._into / name).parent.mkdir(parents=True, exist_ok=True)
                (self._into / name).write_text(text, "utf-8")
                names.append(name)
                toc.append((name, str(self._into / name), "DATA"))
            if not names:
                raise Unknown(f"{part.name} has no licence text", "Give it one in packaging/licences.py.")
            parts.append(replace(part, texts=tuple(names)))
        document = self._into / bundle.resources.MANIFEST
        document.write_text(bundle.manifest(commit, parts), "utf-8")
        return [*sorted(set(toc)), (document.name, str(document), "DATA")]


def _named(part: str, files: list[Path]) -> list[tuple[str, str]]:
    """All its own texts as one, and the common ones that they refer to."""
    own = [file.read_text("utf-8", "replace") for file in files if file.parent != COMMON]
    common = {file.name for file in files if file.parent == COMMON}
    common |= {name.rstrip(".") for text in own for name in re.findall(rf"{COMMON}/([A-Z][\w.-]*)", text)}
    named = [(f"licences/{re.sub(r'[^a-z0-9.+-]+', '-', part.lower())}.txt", "\n\n".join(own))] if own else []
    return named + [(f"licences/common/{name}", (COMMON / name).read_text("utf-8")) for name in sorted(common)]


class _Owners:
    """To whom a file belongs: a Python package, a Debian package, or Python itself."""

    def __init__(self, toc: Toc) -> None:
        self._distributions = {
            os.path.normpath(home / file): distribution
            for distribution in metadata.distributions()
            for home in [Path(os.path.realpath(str(distribution.locate_file(""))))]
            for file in distribution.files or ()
        }
        rest = [file for _, file, _ in toc if os.path.realpath(file) not in self._distributions]
        self._packages = _packages_of([file for file in rest if not _is_pythons(file)])

    def of(self, file: str) -> tuple[Component, list[Path]]:
        path, real = os.path.normpath(file), os.path.realpath(file)
        if real in self._distributions:
            return _of_distribution(self._distributions[real])
        if path in self._packages:
            return _of_package(self._packages[path])
        if _is_pythons(path) or Path(path).name == "base_library.zip":
            return _of_python()
        raise Unknown(f"nobody knows whose this is: {Path(path).name}", "Leave it out in packaging/veilsupport.spec.")


def _of_distribution(distribution: metadata.Distribution) -> tuple[Component, list[Path]]:
    part = bundle.described(distribution)
    within = WITHIN.get(part.name, [])
    texts = _texts_of(distribution)
    for _, _, more in within:
        texts += [each for name in more for each in _text_named(name)]
    for name, licence, _ in within:
        part = replace(part, licence=f"{part.licence}; within it {name}: {licence}")
    return part, texts


def _text_named(name: str) -> list[Path]:
    owner = BORROWED.get(name)
    if owner is None:
        return [COMMON / name]
    try:
        return [each for each in _texts_of(metadata.distribution(owner)) if name in each.name]
    except metadata.PackageNotFoundError:
        return [Path(f"/usr/share/doc/{owner}/copyright")]


def _texts_of(distribution: metadata.Distribution) -> list[Path]:
    found = [file for file in distribution.files or () if ".dist-info" in file.parts[0] and _TEXT.search(file.name)]
    return sorted(Path(str(distribution.locate_file(file))) for file in found)


def _of_package(package: str) -> tuple[Component, list[Path]]:
    query = ("dpkg-query", "--show", "--showformat", "${source:Package} ${source:Version}", package)
    source, version = subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()
    if source not in DEBIAN:
        raise Unknown(f"the licence of Debian's {source} is not known", "Read it, and add it to packaging/licences.py.")
    texts = [Path(f"/usr/share/doc/{package.partition(':')[0]}/copyright")]
    texts += [COMMON / "GPL-3"] if source == "tor" else []
    part = Component(source, version, DEBIAN[source], f"Debian's source package {source}, version {version}")
    return part, texts


def _of_python() -> tuple[Component, list[Path]]:
    licence = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    version = ".".join(map(str, sys.version_info[:3]))
    return Component("Python", version, "PSF-2.0", f"Python's own release {version}"), [licence]


def _is_pythons(file: str) -> bool:
    """Of a Python that is no Debian package."""
    return sys.base_prefix not in {"/usr", "/usr/local"} and Path(file).is_relative_to(sys.base_prefix)


def _packages_of(files: list[str]) -> dict[str, str]:
    """By file, as it was named; where /usr was merged dpkg may know it by its other name."""
    names = {spelled: file for file in files for spelled in _spellings(file)}
    if not names:
        return {}
    told = subprocess.run(("dpkg-query", "--search", *names), check=False, capture_output=True, text=True).stdout
    found = [line.rpartition(": ") for line in told.splitlines() if not line.startswith("diversion ")]
    return {os.path.normpath(names[name]): packages.partition(",")[0] for packages, _, name in found if name in names}


def _spellings(file: str) -> set[str]:
    plain = {os.path.normpath(file), os.path.realpath(file)}
    return plain | {each.removeprefix("/usr") for each in plain} | {f"/usr{each}" for each in plain}
