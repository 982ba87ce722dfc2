"""A program under what packaging/veilsupport.service allows it, as far as that can be had without systemd.

    python -m tests.live.confined DATA CACHE RUNTIME COMMAND…

reads the unit and gives the command its system calls, address families and memory protection by seccomp and prctl, its
limits, umask and rights; as root also its user, its own file system, read-only and noexec but for what the unit
names, and a /proc of its own processes alone. Not to be had so: cgroups (MemorySwapMax=, SocketBindDeny=),
credentials, user and IPC namespaces.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

UNIT: Final = Path(__file__).resolve().parents[2] / "packaging" / "veilsupport.service"
_NOBODY: Final = 65534
_CLONE_NEWNS: Final = 0x00020000  # unshare(2)
_PR_SET_NO_NEW_PRIVS: Final = 38  # prctl(2)
_PR_CAPBSET_DROP: Final = 24
_PR_SET_MDWE: Final = 65  # Linux 6.3
_REFUSE_EXEC_GAIN: Final = 1
_ALLOW: Final = 0x7FFF0000  # seccomp_init(3)
_EPERM: Final = 0x00050001
_EQUAL: Final = 4


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def settings() -> dict[str, list[str]]:
    """The unit's lines, by name."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def allowed_calls(filters: list[str]) -> set[str]:
    """What SystemCallFilter= leaves, by systemd's own lists of today."""
    allowed: set[str] = set()
    for line in filters:
        calls = {call for word in line.removeprefix("~").split() for call in _calls(word)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed | _calls("@default")  # always, as systemd.exec(5) says


def _calls(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    told = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in told.stdout.splitlines()[1:]]
    return {call for line in lines if line and not line.startswith("#") for call in _calls(line)}


def filter_calls(names: set[str], families: set[int]) -> None:
    """Everything else is refused with EPERM, from here on and in every child."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(_EPERM))
    for name in names - {"socket"}:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # else it is of another kind of machine
            assert library.seccomp_rule_add_array(context, _ALLOW, number, 0, None) == 0, name
    number = library.seccomp_syscall_resolve_name(b"socket")
    for family in families:
        is_it = _Comparison(0, _EQUAL, family, 0)
        assert library.seccomp_rule_add_array(context, _ALLOW, number, 1, ctypes.byref(is_it)) == 0
    assert library.seccomp_load(context) == 0


def enclose(executable: list[str], writable: list[Path], in_memory: Path) -> None:
    """A file system of our own: read-only and noexec, but for these. As root, in a process of its own."""
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "proc", "-o", "hidepid=invisible,subset=pid", "proc", "/proc")
    run("mount", "-t", "tmpfs", "-o", f"uid={_NOBODY},gid={_NOBODY},mode=0700", "tmpfs", str(in_memory))
    for path in dict.fromkeys([*map(str, writable), *executable]):
        if Path(path).is_dir() and not Path(path).is_symlink() and not os.path.ismount(path):
            run("mount", "--bind", path, path)
    ours = {*map(str, writable), str(in_memory)}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        path = line.split()[1]
        if path != "/dev" and not path.startswith(("/proc", "/sys", "/dev/pts")):
            access = "rw" if path in ours else "ro"
            execution = "exec" if path.startswith(tuple(executable)) else "noexec"
            run("mount", "-o", f"remount,bind,nosuid,nodev,{access},{execution}", path)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def drop_rights() -> None:
    process = ctypes.CDLL(None)
    for capability in range(64):
        process.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def confine(data: Path, cache: Path, runtime: Path) -> None:
    """This process, for good."""
    unit, process = settings(), ctypes.CDLL(None)
    calls = allowed_calls(unit["SystemCallFilter"])
    families = {int(getattr(socket, name)) for name in unit["RestrictAddressFamilies"][0].split()}
    resource.setrlimit(resource.RLIMIT_CORE, (int(unit["LimitCORE"][0]),) * 2)
    os.umask(int(unit["UMask"][0], 8))
    if os.geteuid() == 0:
        assert process.unshare(_CLONE_NEWNS) == 0
        named = unit["ExecPaths"][0].replace("-", "").split()
        enclose([str(cache) if path == "/var/cache/veilsupport" else path for path in named], [data, cache], runtime)
        drop_rights()
    assert process.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    if unit["MemoryDenyWriteExecute"] == ["yes"]:
        process.prctl(_PR_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0)
    filter_calls(calls, families)


def main() -> None:
    data, cache, runtime = (Path(each) for each in sys.argv[1:4])
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "TMPDIR": str(cache),
        "RUNTIME_DIRECTORY": str(runtime),
        "LANG": "C.UTF-8",
    }
    confine(data, cache, runtime)
    os.chdir(data)
    os.execve(sys.argv[4], sys.argv[4:], environment)  # noqa: S606 - that is what it is for


if __name__ == "__main__":
    main()
