"""The product as it ships, on loopback without tor: the program itself, its data, its accounts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.bench.asking import Line
from tests.bench.processes import LOAD_CORE, SERVER_CORE, Pinned, pinned, wait_for_http
from tests.live.prosody import Prosody
from tests.ports import free_port

TOP: Final = Path(__file__).resolve().parent.parent.parent
PASSWORD: Final = "for the benchmark"
# A visitor may say little before the first answer; here nobody answers each of ten thousand.
_SETTINGS: Final = "[desk]\nrequest_messages = 0\nrequest_characters = 0\n"


class Product:
    """`veilsupport run`. `roomy`: with higher numbers in the limits (roomy.py); `server`: the admins' side."""

    def __init__(
        self,
        directory: Path,
        *,
        server: Prosody | None = None,
        form: str = "direct",
        roomy: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.data = directory
        self.port = free_port()
        self._module = ["-m", "tests.bench.roomy"] if roomy else [str(TOP / "veilsupport.py")]
        self._env = {"PYTHONPATH": str(TOP), **(env or {})}
        self._errors = directory.with_suffix(".log")
        directory.mkdir(mode=0o700)
        (directory / "veilsupport.toml").write_text(_SETTINGS)
        if server is not None:
            self._set_up(server, form)
        self.child = self._start()

    def _set_up(self, server: Prosody, form: str) -> None:
        xmpp = f'[xmpp]\njid = "{server.jid("desk")}"\nform = "{form}"\n'
        (self.data / "veilsupport.toml").write_text(_SETTINGS + xmpp)
        words = [
            *("--jid", server.jid("desk"), "--host", "127.0.0.1", "--port", str(server.port)),
            *("--certificate", server.fingerprint, "--admin", f"{server.jid('admin')}=Anna"),
        ]
        command = [sys.executable, str(TOP / "veilsupport.py"), "setup", "--data", str(self.data), *words]
        env = {**os.environ, "VEILSUPPORT_XMPP_PASSWORD": PASSWORD}
        subprocess.run(command, check=True, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def _start(self) -> Pinned:
        command = [sys.executable, *self._module, "run", "--data", str(self.data), "--no-tor", "--port", str(self.port)]
        child = Pinned(command, core=SERVER_CORE, env=self._env, errors=self._errors)
        try:
            self.ready_at = wait_for_http(self.port, process=child.process)
        except BaseException as error:
            child.stop()
            error.add_note(f"The product said: {self._errors.read_text()[-2000:]}")
            raise
        return child

    @property
    def pid(self) -> int:
        return self.child.pid

    def accounts(self, many: int) -> list[str]:
        """Tokens of so many new visitors."""
        with Line(self.port) as line:
            told = [line.must("POST", "/api/v1/auth/anonymous", {}).json for _ in range(many)]
        return [str(each["token"]) for each in told]

    def stop(self) -> None:
        self.child.stop()

    def restart(self) -> None:
        """After `stop`: the same program on the same data."""
        self.child = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class AdminsServer(Prosody):
    """Prosody with the desk's account and one admin's; on the generator's core, as it only plays."""

    def __init__(self) -> None:
        super().__init__(accounts={"desk": PASSWORD, "admin": PASSWORD})

    def _command(self) -> list[str]:
        return [*pinned(LOAD_CORE), *super()._command()]
