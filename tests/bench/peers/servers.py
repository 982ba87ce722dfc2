"""The references, each as a server that can be started: on the server's core, with made-up accounts and its own disk.

with Skeleton(loop="uvloop") as server:
    Generator.do("open", dialect=server.dialect, host="127.0.0.1", port=server.port, accounts=server.accounts(10), …)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Literal, Self

from tests.bench.peers import accounts
from tests.bench.processes import SERVER_CORE, Pinned
from tests.ports import free_port

_TOP: Final = Path(__file__).resolve().parent.parent.parent.parent
_NODE: Final = Path(__file__).resolve().parent / "node"
_SCHEMA: Final = Path(__file__).resolve().parent / "sealed.sql"


class Reference:
    """`within`: the directory for its own one, to be on the same disk as the product; None: the system's.

    `most` accounts are made before it starts, because a server is told of all of them at once.
    """

    name: ClassVar[str]
    dialect: ClassVar[str] = "desk"
    seals: ClassVar[bool] = False
    keeps: ClassVar[str | None] = None  # the table of its database that has a row for each message
    takes_posts: ClassVar[bool] = False  # POST /api/v1/chat/send

    def __init__(
        self, within: Path | None = None, *, loop: Literal["asyncio", "uvloop"] = "asyncio", most: int = 10_000
    ) -> None:
        self.loop = loop
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"bench-{self.name}-", dir=within))
        self.database = self.directory / "chat.db"
        self.owners = [accounts.Owner.new() for _ in range(most)]
        self._given = 0
        self.child: Pinned | None = None

    def command(self, accounts_path: Path) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Returns once it listens. RuntimeError: it ended before; its own words are in `errors`."""
        path = self.directory / "accounts.json"
        accounts.write(path, self.owners)
        env = {"PYTHONPATH": str(_TOP)}
        self.child = Pinned(self.command(path), core=SERVER_CORE, env=env, errors=self.errors)
        try:
            self.child.line()
        except RuntimeError as error:
            raise RuntimeError(f"{self.name} did not start: {self.errors.read_text()[-2000:]}") from error

    @property
    def errors(self) -> Path:
        return self.directory / "errors.log"

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    def accounts(self, many: int) -> list[str]:
        """Tokens of so many, none of which was given before. ValueError: there are no more."""
        tokens = [owner.token for owner in self.owners[self._given : self._given + many]]
        if len(tokens) < many:
            raise ValueError(f"only {len(self.owners)} accounts were made")
        self._given += many
        return tokens

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()
        shutil.rmtree(self.directory)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class _InPython(Reference):
    module: ClassVar[str]

    def command(self, accounts_path: Path) -> list[str]:
        return [
            *(sys.executable, "-m", f"tests.bench.peers.{self.module}", "--port", str(self.port)),
            *("--loop", self.loop, "--accounts", str(accounts_path), "--database", str(self.database)),
        ]


class Echo(_InPython):
    name = "echo"
    module = "echo"
    dialect = "echo"


class Skeleton(_InPython):
    name = "skeleton"
    module = "skeleton"
    seals = True
    keeps = "message"
    takes_posts = True


class FastApiChat(_InPython):
    name = "fastapi"
    module = "fastapichat"
    keeps = "messages"
    takes_posts = True


class SocketIoChat(_InPython):
    name = "socketio"
    module = "socketiochat"
    dialect = "socketio"
    keeps = "messages"


class NodeChat(Reference):
    """`loop` means nothing to it: Node has its own."""

    name = "node"
    seals = True
    keeps = "message"
    takes_posts = True

    def start(self) -> None:
        subprocess.run([_NODE / "install"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        super().start()

    def command(self, accounts_path: Path) -> list[str]:
        words = [str(self.port), str(accounts_path), str(self.database), str(_SCHEMA)]
        return [shutil.which("node") or "node", str(_NODE / "server.js"), *words]


REFERENCES: Final[tuple[type[Reference], ...]] = (Echo, Skeleton, FastApiChat, SocketIoChat, NodeChat)
