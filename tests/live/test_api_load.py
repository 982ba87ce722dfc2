"""The API of the real appliance, with the limits as shipped, and a real XMPP server on the admins' side.

A hundred people at once write ten messages each; and clients that do what no client should.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.live.appliance import Appliance
from tests.live.maindesk import PASSWORDS, is_online, phone_of, set_up
from tests.live.prosody import Prosody
from tests.ports import free_port
from tests.test_wire import close_code, frame, read_frame
from veilsupport.web.frames import Close

PEOPLE: Final = 100
EACH: Final = 10
PASSWORD: Final = "long enough"


class Person:
    """One integrator's client, on a connection that is kept."""

    def __init__(self, page: str) -> None:
        self.place = urlsplit(page).netloc
        self._connection = http.client.HTTPConnection(self.place, timeout=60)
        self.token = ""

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body)
        self._connection.request(method, f"/api/v1{path}", content, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def register(self, email: str, password: str = PASSWORD) -> tuple[int, Any]:
        status, answer = self.call("POST", "/auth/register", {"email": email, "password": password})
        if status == 201:
            self.token = answer["token"]
        return status, answer

    def history(self) -> list[Any]:
        found: list[Any] = self.call("GET", "/chat/history?limit=200")[1]["messages"]
        return found

    async def socket(self, **auth: object) -> ClientConnection:
        client = await connect(f"ws://{self.place}/api/v1/ws", proxy=None)
        await client.send(json.dumps({"type": "auth", "token": self.token, **auth}))
        assert json.loads(await client.recv())["type"] == "ready"
        return client

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def prosody() -> Iterator[Prosody]:
    with Prosody(accounts=PASSWORDS) as server:
        yield server


@pytest.fixture(scope="module")
def desk(prosody: Prosody, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    data = tmp_path_factory.mktemp("desk") / "data"
    set_up(data, prosody, host="127.0.0.1", port=prosody.port)
    with Appliance(data, "--no-tor", "--port", str(free_port())) as appliance:
        appliance.wait_until("online", is_online)
        yield appliance
        assert appliance.stop() == 0


@pytest.fixture
def person(desk: Appliance) -> Iterator[Person]:
    with contextlib.closing(Person(desk.wait_for_page())) as someone:
        someone.token = someone.call("POST", "/auth/anonymous")[1]["token"]
        yield someone


def test_the_table_of_the_integration_cases(desk: Appliance) -> None:
    with contextlib.closing(Person(desk.wait_for_page())) as someone:
        status, answer = someone.register("first@mail.example")
        assert status == 201
        assert answer["user"]["id"]
        assert answer["user"]["email"] == "first@mail.example"
        assert answer["token"]
        assert someone.register("first@mail.example")[0] == 409
        assert someone.register("second@mail.example", "123")[0] == 400
        login = {"email": "first@mail.example", "password": PASSWORD}
        assert someone.call("POST", "/auth/login", login)[0] == 200
        assert someone.call("POST", "/auth/login", {**login, "password": "wrong"})[0] == 401


def test_a_message_sent_over_rest_arrives_on_the_websocket_within_two_seconds(person: Person) -> None:
    async def run() -> None:
        address = f"ws://{person.place}/api/v1/ws?token={person.token}"
        async with connect(address, proxy=None) as client, asyncio.timeout(2):
            assert json.loads(await client.recv())["type"] == "ready"
            assert (await asyncio.to_thread(person.call, "POST", "/chat/send", {"message": "hello"}))[0] == 200
            heard = json.loads(await client.recv())
            assert (heard["type"], heard["content"]) == ("message", "hello")

    asyncio.run(run())


def test_a_hundred_people_write_ten_messages_each_and_nothing_is_lost_or_doubled(
    desk: Appliance, prosody: Prosody
) -> None:
    page = desk.wait_for_page()
    expected = [f"person {who} says {number}" for who in range(PEOPLE) for number in range(EACH)]

    def writes(who: int) -> list[tuple[int, Any]]:
        with contextlib.closing(Person(page)) as person:
            replies = [person.register(f"person{who}@mail.example")]
            bodies = [{"message": f"person {who} says {number}", "id": f"n{number}"} for number in range(EACH)]
            replies += [person.call("POST", "/chat/send", body) for body in bodies]
            assert [message["content"] for message in person.history()] == [body["message"] for body in bodies]
            return replies

    async def run() -> None:
        async with phone_of(prosody) as phone:
            with ThreadPoolExecutor(PEOPLE) as pool:
                loop = asyncio.get_running_loop()
                began = time.monotonic()
                replies = await asyncio.gather(*(loop.run_in_executor(pool, writes, who) for who in range(PEOPLE)))
                print(f"{PEOPLE} x {EACH}: {time.monotonic() - began:.1f} s")
            assert Counter(status for each in replies for status, _ in each) == {201: PEOPLE, 200: PEOPLE * EACH}
            wanted = set(expected)
            desk.wait_until("all handed over", lambda told: told["waiting_to_be_delivered"] == 0, seconds=120)

            def heard() -> Counter[str]:
                return Counter(got.body for lines in phone.room_inbox.values() for got in lines)

            async with asyncio.timeout(60):
                while not wanted <= heard().keys():
                    await asyncio.sleep(0.2)
            await asyncio.sleep(1)  # for whatever would come twice
            assert {text: count for text, count in heard().items() if text in wanted and count != 1} == {}

    asyncio.run(run())


def test_what_no_client_should_do_is_answered_clearly_and_loses_nothing(desk: Appliance, person: Person) -> None:
    page = desk.wait_for_page()

    async def half_open() -> None:
        """A client that has gone without a word: it never answers our pings."""
        with contextlib.closing(Person(page)) as gone:
            gone.token = gone.call("POST", "/auth/anonymous")[1]["token"]
        reader, writer = await raw(gone)
        began = time.monotonic()
        try:
            assert await close_code_of(reader) == Close.NO_PONG
        finally:
            writer.close()
        assert time.monotonic() - began > 45

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(half_open())
            await too_large(person)
            await not_utf8(person)
            await ten_thousand(person)
            await revoked(person)

    asyncio.run(run())


async def raw(person: Person) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*person.place.split(":"))
    writer.write(
        f"GET /api/v1/ws?token={person.token} HTTP/1.1\r\nHost: {person.place}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    assert b'"ready"' in (await read_frame(reader))[1]
    return reader, writer


async def close_code_of(reader: asyncio.StreamReader) -> int:
    """However long it takes."""
    while True:
        first = (await reader.readexactly(1))[0]
        size = (await reader.readexactly(1))[0]
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        payload = await reader.readexactly(size)
        if first & 15 == 8:
            return int.from_bytes(payload[:2], "big")


async def too_large(person: Person) -> None:
    client = await person.socket()
    with contextlib.suppress(ConnectionClosed):
        await client.send("x" * 1_000_000)
    with pytest.raises(ConnectionClosed):
        await client.recv()
    assert client.close_code == Close.TOO_LARGE


async def not_utf8(person: Person) -> None:
    reader, writer = await raw(person)
    writer.write(frame(b"\xff\xfe"))
    assert await close_code(reader) == Close.NOT_UTF8
    writer.close()


async def ten_thousand(person: Person) -> None:
    client = await person.socket()
    acked: list[str] = []

    async def hears() -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in client:
                heard = json.loads(text)
                acked.extend([heard["content"]] if heard["type"] == "ack" else [])

    listening = asyncio.create_task(hears())
    with contextlib.suppress(ConnectionClosed):
        for number in range(10_000):
            await client.send(json.dumps({"type": "message", "content": f"flood {number}", "id": f"f{number}"}))
    await listening
    assert client.close_code == Close.TOO_FAST
    stored = [message["content"] for message in await asyncio.to_thread(person.history)]
    assert set(acked) <= set(stored)
    assert len(stored) == len(set(stored)) <= 21


async def revoked(person: Person) -> None:
    client = await person.socket()
    assert (await asyncio.to_thread(person.call, "POST", "/auth/logout"))[0] == 204
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(2):
            async for _ in client:  # states of what was sent before may still come
                pass
    assert client.close_code == Close.SIGNED_OUT
