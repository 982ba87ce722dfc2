"""The main job on this machine alone: `packaging/run --try`.

Starts a Prosody of its own with two accounts, the appliance as it would run (without tor), and a small admin chat in
this terminal. Everything is on loopback, in a temporary directory, and gone afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

from tests.live.phone import Phone  # noqa: E402 - the checkout is not installed
from tests.live.prosody import Prosody  # noqa: E402

_USUAL_PORT: Final = 8080
_WELCOME: Final = """
VeilSupport, tried out on this machine alone (no Tor, nothing leaves it).

  Visitor   open {page} in a browser and write something
  Admin     is you, here: visitors' words appear below, what you type goes back (!help lists the commands)

Any XMPP client on this machine can be the admin as well:
  {jid}, password {password}, server 127.0.0.1, port {port}, certificate sha256 {fingerprint}

Ctrl-C ends it and leaves nothing behind.
"""


def main() -> int:
    password = secrets.token_hex(4)
    accounts = {"desk": password, "admin": password}
    try:
        with tempfile.TemporaryDirectory(prefix="veilsupport-try-") as data, Prosody(accounts=accounts) as server:
            return asyncio.run(try_out(server, Path(data), password))
    except KeyboardInterrupt:
        return 130


async def try_out(server: Prosody, data: Path, password: str) -> int:
    """Until the end of the input, a signal, or the appliance's own end; the exit status."""
    port = free_port()
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    set_up(server, data, password)
    desk, admin = server.jid("desk"), server.jid("admin")
    async with appliance(data, port) as running, Phone(admin, password, desk=desk, port=server.port) as phone:
        if not await page_answers(port, running):
            print("The appliance did not start.", file=sys.stderr)
            return 1
        page = f"http://127.0.0.1:{port}/"
        print(
            _WELCOME.format(page=page, jid=admin, password=password, port=server.port, fingerprint=server.fingerprint),
            flush=True,
        )
        async with asyncio.TaskGroup() as jobs:
            tasks = [
                jobs.create_task(job)
                for job in (show(phone), show_rooms(phone), pass_on(phone, over), watch(running, over))
            ]
            await over.wait()
            for task in tasks:
                task.cancel()
        print("\nGoodbye.")
        return 0 if running.returncode is None else 1


def set_up(server: Prosody, data: Path, password: str) -> None:
    subprocess.run(
        program(
            data,
            "setup",
            *("--jid", server.jid("desk"), "--host", "127.0.0.1", "--port", str(server.port)),
            *("--certificate", server.fingerprint, "--admin", f"{server.jid('admin')}=Anna"),
        ),
        check=True,
        env={**os.environ, "VEILSUPPORT_XMPP_PASSWORD": password},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def program(data: Path, command: str, *arguments: str) -> Sequence[str]:
    return [sys.executable, str(HERE / "veilsupport.py"), command, "--data", str(data), *arguments]


@contextlib.asynccontextmanager
async def appliance(data: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program itself, for the length of the block."""
    process = await asyncio.create_subprocess_exec(
        *program(data, "run", "--no-tor", "--port", str(port)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us; we end it in order
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()


async def page_answers(port: int, running: asyncio.subprocess.Process) -> bool:
    for _ in range(200):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
        if running.returncode is not None:
            return False
        await asyncio.sleep(0.1)
    return False


async def show(phone: Phone) -> None:
    """What reaches the admin."""
    async for got in phone.stream():
        phone.look_at(got)
        print(f"  {got.body}" if got.body else "  (a message was withdrawn)", flush=True)


async def show_rooms(phone: Phone) -> None:
    """What is said in the rooms, by others than the admin."""
    shown: dict[str, int] = {}
    while True:
        await phone.when(
            lambda: any(len(lines) > shown.get(room, 0) for room, lines in phone.room_inbox.items()), seconds=10**6
        )
        for room, lines in phone.room_inbox.items():
            for got in lines[shown.get(room, 0) :]:
                if got.body and got.nick != phone.nick:
                    phone.room_look_at(room, got.stanza_id)
                    print(f"  [{got.nick}] {got.body}", flush=True)
            shown[room] = len(lines)


async def pass_on(phone: Phone, over: asyncio.Event) -> None:
    """What the admin types; the end of the input ends it all. A thread reads, because a file cannot be waited for."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    while line := await lines.get():
        if line.strip():
            phone.say(line.strip())
    await asyncio.sleep(1)  # the last line is on its way
    over.set()


async def watch(running: asyncio.subprocess.Process, over: asyncio.Event) -> None:
    await running.wait()
    print("The appliance has ended.", file=sys.stderr)
    over.set()


def free_port() -> int:
    """The usual one, if nobody has it."""
    for port in (_USUAL_PORT, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as probe:
            return int(probe.getsockname()[1])
    raise SystemExit("There is no free port on 127.0.0.1.")


if __name__ == "__main__":
    sys.exit(main())
