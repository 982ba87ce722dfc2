"""What happens to a desk whose machine fails it: said in plain words, nothing kept is lost, and it recovers by itself.

The desk is the process that an operator starts. With VEILSUPPORT_TEST_LONG=1 the faults last as long as real ones do.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.browser import Browser, bodies
from tests.live.appliance import COMMAND, TOP, Appliance, run_command
from tests.live.faults import Shim, SmallDisk, is_sound, locked_by_a_stranger
from tests.live.maindesk import PASSWORDS, is_online, phone_of, set_up
from tests.live.overhttp import browser_at
from tests.live.prosody import Prosody
from tests.live.tornode import found
from tests.ports import free_port
from tests.program import Program
from veilsupport.config import FILE_NAME

LONG: Final = bool(os.environ.get("VEILSUPPORT_TEST_LONG"))
YEARS: Final = 3 * 365 * 86_400
NOTHING_SENT: Final = "cannot keep anything at this moment, so nothing was sent"


@contextlib.contextmanager
def desk(data: Path, *, through: Sequence[str] = ()) -> Iterator[Appliance]:
    """Without tor, and without anybody who answers; `through`: what starts it."""
    with Appliance(data, "--no-tor", "--port", str(free_port()), command=(*through, *COMMAND)) as appliance:
        appliance.wait_for_page()
        yield appliance


def page_of(appliance: Appliance) -> str:
    return appliance.wait_for_page()


def program_at(appliance: Appliance) -> Program:
    page = page_of(appliance)
    return Program(browser_at(page).app, host=page.partition("//")[2])


async def shown(browser: Browser) -> list[str]:
    """The visitor's own words, as the page shows them."""
    answer = await browser.get("/chat/latest")
    assert answer.status == 200, answer.status
    return bodies(answer.text)


# ---- the disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    with SmallDisk(tmp_path / "disk", megabytes=4) as mounted:
        yield mounted


def test_full_disk_refuses_sends_in_words_and_takes_them_again_when_there_is_room(disk: SmallDisk) -> None:
    async def story(appliance: Appliance) -> None:
        visitor = browser_at(page_of(appliance))
        await visitor.start("before")
        disk.fill()
        refused = await visitor.say("words that were <typed> while it was full")
        assert refused.status == 503
        assert NOTHING_SENT in refused.text
        assert "words that were &lt;typed&gt; while it was full" in refused.text
        stranger = browser_at(page_of(appliance))
        refused = await stranger.send_form("/", message="the first words of somebody new")
        assert refused.status == 503
        assert "the first words of somebody new" in refused.text
        assert await shown(visitor) == ["before"]
        told = appliance.status()
        assert told["parts"]["store"]["state"] == "the disk did not take the latest write"
        assert told["trouble"]
        disk.clear()
        assert (await visitor.say("after")).status == 303
        assert (await stranger.start("again")).status == 303
        assert await shown(visitor) == ["before", "after"]
        assert appliance.status()["parts"]["store"]["ready"]

    with desk(disk.path / "data") as appliance:
        asyncio.run(story(appliance))
        assert appliance.stop() == 0
    assert is_sound(disk.path / "data")


def test_disk_that_fills_under_load_keeps_all_that_was_accepted_once_and_in_order(disk: SmallDisk) -> None:
    """Each send is repeated under its own name until it is accepted, as the SDK does."""
    messages, refusals = 12, 0

    async def writes(program: Program, number: int) -> None:
        nonlocal refusals
        await program.starts()
        for count in range(messages):
            while (reply := await program.post("/chat/send", words(number, count))).status != 200:
                assert (reply.status, reply.code) in {(503, "unavailable"), (429, "too_fast")}, reply.json
                refusals += reply.status == 503
                await asyncio.sleep(0.2)
            await asyncio.sleep(0.1)

    def words(number: int, count: int) -> dict[str, str]:
        return {"message": f"{number} {count} {'x' * 400}", "id": f"{number}-{count}"}

    async def story(appliance: Appliance) -> None:
        programs = [program_at(appliance) for _ in range(6)]
        async with asyncio.TaskGroup() as tasks:
            for number, program in enumerate(programs):
                tasks.create_task(writes(program, number))
            for leave_bytes in (20_000, 0, 4096, 0):
                await asyncio.sleep(0.3)
                await asyncio.to_thread(disk.fill, leave_bytes=leave_bytes)
                await asyncio.sleep(0.4)
                await asyncio.to_thread(disk.clear)
        assert refusals > 0, "it was never full"
        for number, program in enumerate(programs):
            history = (await program.get("/chat/history?limit=100")).json["messages"]
            assert [each["content"] for each in history] == [words(number, n)["message"] for n in range(messages)]

    with desk(disk.path / "data") as appliance:
        asyncio.run(story(appliance))
        appliance.kill()
    assert is_sound(disk.path / "data")


def test_desk_starts_on_a_full_disk_and_shows_what_is_there(disk: SmallDisk) -> None:
    async def before(appliance: Appliance) -> Browser:
        visitor = browser_at(page_of(appliance))
        await visitor.start("kept")
        return visitor

    with desk(disk.path / "data") as appliance:
        visitor = asyncio.run(before(appliance))
        appliance.kill()  # with a log that has not been taken over into the file
        disk.fill()
        appliance.start()
        appliance.wait_for_page()
        assert asyncio.run(shown(visitor)) == ["kept"]
        disk.clear()
        assert asyncio.run(visitor.say("and more")).status == 303
        assert appliance.stop() == 0
    assert is_sound(disk.path / "data")


def test_what_admins_write_to_a_full_disk_comes_when_there_is_room(disk: SmallDisk) -> None:
    async def story(appliance: Appliance, server: Prosody) -> None:
        visitor = browser_at(page_of(appliance))
        async with phone_of(server) as phone:
            await visitor.start("before")
            rang = await phone.room_text("before", seconds=30)
            disk.fill()
            for number in range(3):
                phone.room_say(rang.room, f"answer {number}")
            await asyncio.sleep(2)
            assert await shown(visitor) == ["before"]
            assert is_online(appliance.status()), "a full disk is no reason to lose the line"
            disk.clear()
            async with asyncio.timeout(30):
                while len(await shown(visitor)) < 4:
                    await asyncio.sleep(0.2)
            await asyncio.sleep(1)
            assert await shown(visitor) == ["before", "answer 0", "answer 1", "answer 2"]

    with Prosody(accounts=PASSWORDS) as server:
        set_up(disk.path / "data", server, host="127.0.0.1", port=server.port)
        with desk(disk.path / "data") as appliance:
            appliance.wait_until("online", is_online)
            asyncio.run(story(appliance, server))
            assert appliance.stop() == 0
        assert is_sound(disk.path / "data")


def test_slow_disk_delays_the_sender_and_nobody_else(tmp_path: Path) -> None:
    shim = Shim(tmp_path / "shim")

    async def story(appliance: Appliance) -> None:
        visitor, reader = browser_at(page_of(appliance)), browser_at(page_of(appliance))
        await visitor.start("first")
        shim.sync(milliseconds=700)
        sends = [asyncio.ensure_future(visitor.say(f"slow {number}")) for number in range(4)]
        await asyncio.sleep(0.3)
        took: list[float] = []
        while not all(each.done() for each in sends):
            began = time.monotonic()
            assert (await reader.get("/")).status == 200
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.02)
        shim.sync(milliseconds=0)
        assert [(await each).status for each in sends] == [303] * 4
        assert len(took) > 10, "the disk was not slow"
        assert sorted(took)[len(took) * 9 // 10] < 0.5, "a page waited for the disk"
        assert sorted(await shown(visitor)) == ["first", *(f"slow {number}" for number in range(4))]

    with desk(tmp_path / "data", through=shim.command) as appliance:
        asyncio.run(story(appliance))
        assert appliance.stop() == 0


def test_send_waits_for_a_stranger_who_holds_the_database_and_is_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"

    async def story(appliance: Appliance) -> None:
        visitor, reader = browser_at(page_of(appliance)), browser_at(page_of(appliance))
        await visitor.start("before")
        with locked_by_a_stranger(data):
            sent = asyncio.ensure_future(visitor.say("meanwhile"))
            await asyncio.sleep(1.5)
            assert not sent.done()
            assert (await reader.get("/")).status == 200
            assert await shown(visitor) == ["before"]
        assert (await sent).status == 303
        if LONG:
            await refused_while_locked_for_long(visitor)
            assert await shown(visitor) == ["before", "meanwhile", "after"]

    async def refused_while_locked_for_long(visitor: Browser) -> None:
        with locked_by_a_stranger(data):
            until = time.monotonic() + 20
            while time.monotonic() < until:
                refused = await visitor.say("for too long")
                assert refused.status == 503
                assert NOTHING_SENT in refused.text
                assert "for too long" in refused.text
        assert (await visitor.say("after")).status == 303

    with desk(data) as appliance:
        asyncio.run(story(appliance))
        assert appliance.stop() == 0
    assert is_sound(data)


# ---- the clock ---------------------------------------------------------------------------------------------------


def test_clock_that_jumps_by_years_erases_nothing_and_signs_nobody_out(tmp_path: Path) -> None:
    shim, data = Shim(tmp_path / "shim"), tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / FILE_NAME).write_text("[desk]\nretention_days = 7\nidle_days = 30\n")

    async def story(appliance: Appliance, visitor: Browser) -> None:
        await visitor.start("kept")
        for seconds in (YEARS, -YEARS, 0):
            shim.clock(seconds=seconds)
            assert (await visitor.say(f"at {seconds}")).status == 303
        shim.clock(seconds=YEARS)

    with desk(data, through=shim.command) as appliance:
        visitor = browser_at(page_of(appliance))
        asyncio.run(story(appliance, visitor))
        appliance.kill()
        appliance.start()  # whose first sweep is at once
        appliance.wait_for_page()
        told = appliance.wait_until("doubtful", lambda told: any("clock" in words for words in told["trouble"]))
        assert told["uptime_seconds"] < 60
        everything = ["kept", f"at {YEARS}", f"at {-YEARS}", "at 0"]
        assert asyncio.run(shown(visitor)) == everything
        shim.clock(seconds=0)
        appliance.stop()
        appliance.start()
        appliance.wait_for_page()
        assert appliance.status()["trouble"] == []
        assert asyncio.run(shown(visitor)) == everything


# ---- the process -------------------------------------------------------------------------------------------------


def test_file_descriptors_that_are_used_up_leave_the_desk_at_work(tmp_path: Path) -> None:
    data = tmp_path / "data"

    async def story(appliance: Appliance) -> None:
        visitor, program = browser_at(page_of(appliance)), program_at(appliance)
        await visitor.start("before")
        await program.starts()
        address = urlsplit(page_of(appliance))
        assert address.hostname
        assert address.port
        async with contextlib.AsyncExitStack() as opened:
            before = cpu_seconds(appliance)
            for _ in range(200):
                _, writer = await asyncio.open_connection(address.hostname, address.port)
                opened.callback(writer.close)
            await asyncio.sleep(2)
            assert cpu_seconds(appliance) - before < 1.5, "it spins"
            assert appliance.status()["parts"]["store"]["ready"]
            done = await asyncio.to_thread(run_command, "reload", "--data", str(data))
            assert done.returncode == 0, done.stderr
        assert (await visitor.say("after")).status == 303
        assert (await program.says("after")).status == 200
        assert await shown(visitor) == ["before", "after"]

    with desk(data, through=("prlimit", "--nofile=128")) as appliance:
        asyncio.run(story(appliance))
        assert appliance.stop() == 0


def cpu_seconds(appliance: Appliance) -> float:
    """What it has computed so far (proc(5), stat)."""
    assert appliance.process
    fields = Path(f"/proc/{appliance.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_memory_that_is_used_up_ends_the_desk_or_not_but_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    """What an operator's supervisor would do when it ends, the test does: start it again."""
    data = tmp_path / "data"

    async def load(appliance: Appliance) -> list[tuple[Program, list[str]]]:
        """Until a minute or the desk is over: each visitor's texts that were accepted, and perhaps the one after."""
        kept: list[tuple[Program, list[str]]] = []
        until = time.monotonic() + 8
        with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
            while time.monotonic() < until and not ended(appliance):
                program, texts = program_at(appliance), list[str]()
                kept.append((program, texts))
                await program.starts()
                for count in range(5):
                    if len(kept) == 5:
                        await asyncio.to_thread(limit_memory, appliance)
                    text = f"{len(kept)} {count}"
                    await program.says(text)
                    texts.append(text)
                if len(kept) >= 5:  # takes 64 MB for a moment
                    await program.post(
                        "/auth/register", {"email": f"{len(kept)}@mail.example", "password": "long enough"}
                    )
        return kept

    with desk(data) as appliance:
        kept = asyncio.run(load(appliance))
        assert len(kept) >= 5, "it ended before there was a limit"
        assert appliance.process
        if "A request met a bug" in appliance.output:
            assert appliance.process.wait(20) == 70, "it neither works nor ends"
        else:
            appliance.kill()
        assert is_sound(data)
        appliance.start()
        appliance.wait_for_page()
        for program, texts in kept:
            if program.token:
                history = asyncio.run(program_of(appliance, program).get("/chat/history?limit=100")).json["messages"]
                assert [each["content"] for each in history][: len(texts)] == texts


def ended(appliance: Appliance) -> bool:
    return appliance.process is None or appliance.process.poll() is not None


def program_of(appliance: Appliance, before: Program) -> Program:
    after = program_at(appliance)
    after.token = before.token
    return after


def limit_memory(appliance: Appliance) -> None:
    """Not a byte of address space more than it has."""
    assert appliance.process
    with contextlib.suppress(ProcessLookupError):
        used = int(Path(f"/proc/{appliance.process.pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.prlimit(appliance.process.pid, resource.RLIMIT_AS, (used, used))


# ---- what it leaves behind when it dies --------------------------------------------------------------------------

_VICTIM: Final = """
import resource, sys, time
sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
if sys.argv[2] == "hardened":
    from veilsupport import hardening
    hardening.forbid_core_dumps()
print("ready", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def victim(directory: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """A process of an ordinary user; `kind`: hardened, or open."""
    for name in ("__init__.py", "hardening.py"):
        (directory / "veilsupport").mkdir(exist_ok=True)
        shutil.copy(TOP / "veilsupport" / name, directory / "veilsupport")
    command = ["/usr/bin/python3", "-c", _VICTIM, str(directory), kind]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True, **_as_nobody()) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def _as_nobody() -> dict[str, Any]:
    return {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


@pytest.fixture
def anywhere() -> Iterator[Path]:
    """Not below pytest's own directory, which is closed to others."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_process_of_the_same_user_cannot_read_our_memory(anywhere: Path) -> None:
    for kind, expected in (("open", "read"), ("hardened", "PermissionError")):
        with victim(anywhere, kind) as process:
            script = (
                "import sys\ntry: open(f'/proc/{sys.argv[1]}/mem', 'rb'); print('read')\n"
                "except OSError as error: print(type(error).__name__)"
            )
            command = ["/usr/bin/python3", "-c", script, str(process.pid)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, **_as_nobody())
            assert done.stdout.strip() == expected, kind


def test_crash_leaves_no_image_of_our_memory(anywhere: Path) -> None:
    if not Path("/proc/sys/kernel/core_pattern").read_text().startswith("core"):
        pytest.skip("here the system gives dumps to a program")
    for kind in ("open", "hardened"):
        with victim(anywhere, kind) as process:
            process.send_signal(signal.SIGSEGV)
            assert process.wait(10) == -signal.SIGSEGV
        cores = [path for path in anywhere.iterdir() if path.name.startswith("core")]
        assert bool(cores) == (kind == "open"), kind
        for path in cores:
            path.unlink()


def test_memory_is_not_locked_where_it_may_not_be_and_nothing_fails_of_that(anywhere: Path) -> None:
    """As an ordinary user under the usual limit of some megabytes."""
    shutil.copy(TOP / "veilsupport" / "hardening.py", anywhere)
    script = "import hardening; print(hardening.lock_memory(), len(bytearray(100 * 2**20)))"
    command = ["prlimit", f"--memlock={2**20}", "/usr/bin/python3", "-c", script]
    done = subprocess.run(command, cwd=anywhere, capture_output=True, text=True, timeout=60, **_as_nobody())
    assert done.stdout.split() == ["False", str(100 * 2**20)], done.stderr


def test_running_desk_locks_its_memory_where_it_may_and_says_so(tmp_path: Path) -> None:
    with desk(tmp_path / "data") as appliance:
        assert appliance.process
        status = Path(f"/proc/{appliance.process.pid}/status").read_text()
        locked_kilobytes, used_kilobytes = (int(found(rf"^{name}:\s+(\d+)", status)) for name in ("VmLck", "VmRSS"))
        done = run_command("doctor", "--data", str(tmp_path / "data"), "--no-loopback")
        if locked_kilobytes:
            assert "Locked: the desk's is not swapped" in done.stdout
            assert used_kilobytes < 200_000, "to be locked it must not be used"
        else:
            assert "Not locked: the system does not permit it" in done.stdout
