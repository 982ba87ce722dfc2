"""The operator's own XMPP server: packaging/prosody as shipped, and the private onion service that leads to it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.live.appliance import Appliance, run_command
from tests.live.ownserver import DISCO, PASSWORDS, SHIPPED, BarePhone, OwnServer, run
from tests.live.privnet import PrivateTorNetwork
from tests.live.test_tor import listening_tcp_ports
from tests.live.tornode import Node, Role, found
from tests.ports import free_port
from veilsupport import crypto
from veilsupport.config import FILE_NAME
from veilsupport.errors import Unavailable
from veilsupport.socks import SocksProxy, dial

PUBSUB = "http://jabber.org/protocol/pubsub"
ITEMS = "<query xmlns='http://jabber.org/protocol/disco#items'/>"
DEVICES = "eu.siacs.conversations.axolotl.devicelist"


def new_address() -> str:
    return crypto.onion_address(crypto.new_onion_key())


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with OwnServer(new_address(), PASSWORDS) as running:
        yield running


def phone_of(server: OwnServer, name: str, *, port: int = 0) -> BarePhone:
    return BarePhone(server.jid(name), PASSWORDS[name], desk=server.jid("desk"), port=port or server.port)


def said_first(server: OwnServer) -> str:
    """What the server says to a phone's fresh stream."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as link:
        link.sendall(opening("jabber:client", server.domain))
        heard = b""
        while b"</stream:features>" not in heard:
            heard += link.recv(65_536)
        return heard.decode()


def opening(namespace: str, to: str) -> bytes:
    stream = "http://etherx.jabber.org/streams"
    version = "version='1.0'" if namespace == "jabber:client" else ""
    return f"<stream:stream xmlns='{namespace}' xmlns:stream='{stream}' to='{to}' {version}>".encode()


# ---- the configuration -----------------------------------------------------------------------------------------


def test_prosodyctl_finds_nothing_wrong_with_it(server: OwnServer) -> None:
    told = run("prosodyctl", "--config", server.config, "check", "config")
    assert re.search(r"Checking config\.\.\.\n.*\n +- .*prosody\.cfg\.lua\nDone\.\n\nAll checks passed", told), told


def test_it_listens_on_two_ports_of_the_loopback_and_on_nothing_else(server: OwnServer) -> None:
    expected = {f"0100007F:{port:04X}" for port in (server.port, server.component_port)}
    assert set(listening_tcp_ports(server.pid)) == expected


def test_it_offers_neither_registration_nor_a_password_in_clear_nor_tls(server: OwnServer) -> None:
    offer = said_first(server)
    assert "SCRAM-SHA-1" in offer
    for word in ("PLAIN", "register", "starttls"):
        assert word not in offer, offer


def test_a_phone_gets_what_keeps_its_messages(server: OwnServer) -> None:
    async def story() -> None:
        async with phone_of(server, "ada") as phone:
            assert "urn:xmpp:carbons:2" in await phone.features(server.domain)
            assert "urn:xmpp:mam:2" in await phone.features(server.jid("ada"))
            assert "stream_management" in phone._client.features
            items = await phone.ask("get", server.domain, ITEMS)
            assert {each.get("jid") for each in items[0]} == {server.room_service, server.component}

    asyncio.run(story())


def test_it_speaks_to_no_other_server(server: OwnServer) -> None:
    async def story() -> None:
        async with phone_of(server, "ada") as phone:
            condition = await phone.refused("get", "elsewhere.example", f"<query xmlns='{DISCO}'/>")
            assert condition == "not-allowed"

    asyncio.run(story())


def test_new_rooms_are_closed_unlisted_and_archived(server: OwnServer) -> None:
    room = f"v-0badcafe@{server.room_service}"
    form = "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>"

    async def story() -> None:
        async with phone_of(server, "desk") as desk, phone_of(server, "bob") as bob:
            assert await desk.enters(room) == ""
            await desk.ask("set", room, form)  # as it is by default
            wanted = {"muc_membersonly", "muc_hidden", "muc_persistent", "muc_nonanonymous", "urn:xmpp:mam:2"}
            assert wanted <= await desk.features(room)
            assert await bob.enters(room) == "registration-required"
            items = await bob.ask("get", server.room_service, ITEMS)
            assert list(items[0]) == []

    asyncio.run(story())


def test_omemo_keys_can_be_read_by_everybody(server: OwnServer) -> None:
    options = (
        "<publish-options><x xmlns='jabber:x:data' type='submit'>"
        f"<field var='FORM_TYPE'><value>{PUBSUB}#publish-options</value></field>"
        "<field var='pubsub#access_model'><value>open</value></field></x></publish-options>"
    )
    devices = "<list xmlns='eu.siacs.conversations.axolotl'><device id='4711'/></list>"
    publish = f"<publish node='{DEVICES}'><item id='current'>{devices}</item></publish>{options}"

    async def story() -> None:
        async with phone_of(server, "ada") as ada, phone_of(server, "bob") as bob:
            await ada.ask("set", server.jid("ada"), f"<pubsub xmlns='{PUBSUB}'>{publish}</pubsub>")
            fetch = f"<pubsub xmlns='{PUBSUB}'><items node='{DEVICES}'/></pubsub>"
            read = await bob.ask("get", server.jid("ada"), fetch)
            assert [each.get("id") for each in read.iter("{eu.siacs.conversations.axolotl}device")] == ["4711"]

    asyncio.run(story())


@pytest.mark.parametrize("right", [True, False])
def test_component_signs_in_with_the_secret_and_not_without(server: OwnServer, right: bool) -> None:
    with socket.create_connection(("127.0.0.1", server.component_port), timeout=10) as link:
        link.sendall(opening("jabber:component:accept", server.component))
        heard = b""
        while not (stream := re.search(rb"<stream:stream[^>]*\bid='([^']+)'", heard)):
            heard += link.recv(65_536)
        secret = server.secret if right else "guessed"
        proof = hashlib.sha1(stream[1] + secret.encode()).hexdigest()  # noqa: S324 - XEP-0114 §3
        link.sendall(f"<handshake>{proof}</handshake>".encode())
        heard = link.recv(65_536)
        assert (b"<handshake/>" in heard) is right, heard


def test_setup_is_safe_to_call_again(tmp_path: Path) -> None:
    (tmp_path / "prosody.cfg.lua").write_text("-- of the package\n")
    address = new_address()
    run(SHIPPED / "setup", address, tmp_path)
    before = (tmp_path / "veilsupport.lua").read_text()
    run(SHIPPED / "setup", address, tmp_path)
    assert (tmp_path / "veilsupport.lua").read_text() == before
    assert (tmp_path / "prosody.cfg.lua.before-veilsupport").read_text() == "-- of the package\n"
    assert (tmp_path / "prosody.cfg.lua").read_text() == (SHIPPED / "prosody.cfg.lua").read_text()
    assert (tmp_path / "veilsupport.lua").stat().st_mode & 0o777 == 0o640
    for wrong in (new_address(), "nowhere.onion", "$(touch x).onion"):
        done = subprocess.run([SHIPPED / "setup", wrong, tmp_path], capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("error:"), done.stderr.count("hint:")) == (1, 1, 1)
    assert (tmp_path / "veilsupport.lua").read_text() == before


# ---- the private onion service -----------------------------------------------------------------------------------


@contextlib.contextmanager
def client_tor(net: PrivateTorNetwork, directory: Path, key_line: str) -> Iterator[SocksProxy]:
    """Another tor of the private network, with a client key as `veilsupport onion client add` prints it."""
    keys = directory / "keys"
    keys.mkdir(mode=0o700, parents=True)
    directory.chmod(0o700)
    (keys / "veilsupport.auth_private").write_text(f"{key_line}\n")
    node = Node(directory, Role.CLIENT, free_port())
    node.start((*net.torrc_lines, f"ClientOnionAuthDir {keys}"))
    assert node.process is not None
    try:
        yield SocksProxy(("127.0.0.1", node.port))
    finally:
        node.process.terminate()
        node.process.wait(10)


@contextlib.asynccontextmanager
async def carried(socks: SocksProxy, onion: str, port: int) -> AsyncIterator[int]:
    """A port on loopback that leads through tor to the onion service, for programs without SOCKS."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, Unavailable):
            far = await dial(socks, onion, port, credentials=("phone", "1"), timeout_seconds=30)
            far_reader, far_writer = await asyncio.open_connection(sock=far)
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while some := await reader.read(65_536):
            writer.write(some)
            await writer.drain()
    writer.close()


async def reaches(socks: SocksProxy, onion: str) -> bool:
    try:
        (await dial(socks, onion, 5222, credentials=("phone", "1"), timeout_seconds=8)).close()
    except Unavailable:
        return False
    return True


async def until_reached(socks: SocksProxy, onion: str) -> None:
    async with asyncio.timeout(60):
        while not await reaches(socks, onion):
            await asyncio.sleep(0.2)


async def half_a_request(net: PrivateTorNetwork, page: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A visitor in the middle of asking for the page."""
    onion = page.removeprefix("http://").strip("/")
    link = await dial(SocksProxy(net.socks), onion, 80, credentials=("visitor", "1"), timeout_seconds=30)
    reader, writer = await asyncio.open_connection(sock=link)
    writer.write(f"GET /check HTTP/1.1\r\nHost: {onion}\r\n".encode())
    await writer.drain()
    return reader, writer


def key_in(printed: str) -> str:
    """The line for tor's ClientOnionAuthDir."""
    return found(r"^ +([a-z2-7]{56}:descriptor:x25519:[A-Z2-7]{52})$", printed)


def private_is(summary: str) -> Any:
    return lambda told: told["tor"]["private"] and told["tor"]["private"]["summary"] == summary


def veilsupport(data: Path, *words: str, env: Mapping[str, str] | None = None) -> str:
    done = run_command(*words, "--data", str(data), env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_admin_signs_in_through_the_second_onion_with_a_key_and_nobody_without(
    tornet: PrivateTorNetwork, tmp_path: Path
) -> None:
    data, passphrase = tmp_path / "data", tmp_path / "passphrase"
    passphrase.write_text("open sesame\n")
    sealed = ("--passphrase-file", str(passphrase))
    veilsupport(data, "setup", "--new-passphrase-file", str(passphrase))
    with (data / FILE_NAME).open("a") as file:
        lines = ", ".join(f'"{line}"' for line in tornet.torrc_lines)
        file.write(f"\n[tor]\nlines = [{lines}]\n")
    with Appliance(data, *sealed) as appliance:
        appliance.wait_for_onion()
        assert appliance.status()["tor"]["private"] is None
        veilsupport(data, "onion", "xmpp", "--port", "1")
        appliance.wait_until("known", private_is("not published: no client is authorised"))
        onion = found(r"([a-z2-7]{56}\.onion)", veilsupport(data, "onion", "xmpp"))
        assert appliance.stop() == 0
    with OwnServer(onion, PASSWORDS) as server:
        answers = ["--jid", server.jid("desk"), "--host", "127.0.0.1", "--port", str(server.port), "--tls", "none"]
        answers += ["--admin", f"{server.jid('ada')}=Ada", *sealed]
        veilsupport(data, "setup", *answers, env={"VEILSUPPORT_XMPP_PASSWORD": PASSWORDS["desk"]})
        veilsupport(data, "onion", "xmpp", "--port", str(server.port))
        with Appliance(data, *sealed) as appliance:
            page = appliance.wait_for_onion()
            appliance.wait_until("online", lambda told: told["xmpp"]["phase"] == "online")
            asyncio.run(comes_and_goes(tornet, tmp_path, appliance, server, page))
            assert appliance.stop() == 0
        assert "ada@" not in server.log()
    assert not (data / "tor" / "onion-xmpp").exists()  # its key rests sealed


async def comes_and_goes(
    net: PrivateTorNetwork, tmp_path: Path, appliance: Appliance, server: OwnServer, page: str
) -> None:
    """A client is authorised, signs in, and is sent away again; a visitor notices nothing of it."""
    data, onion = appliance.data, server.domain
    assert not await reaches(SocksProxy(net.socks), onion)
    reader, writer = await half_a_request(net, page)
    ada_key = key_in(veilsupport(data, "onion", "client", "add", "ada-phone", "--xmpp"))
    appliance.wait_until("published", private_is("published, for 1 client"))
    writer.write(b"Connection: close\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 2")
    writer.close()
    assert f"{onion} (published, for 1 client)" in run_command("status", "--data", str(data)).stdout
    with client_tor(net, tmp_path / "ada", ada_key) as socks:
        await until_reached(socks, onion)
        async with carried(socks, onion, 5222) as port, phone_of(server, "ada", port=port) as phone:
            phone.say("!help")
            await phone.text("!status", seconds=30)
            assert not await reaches(SocksProxy(net.socks), onion)
            bob_key = key_in(veilsupport(data, "onion", "client", "add", "bob-phone", "--xmpp"))
            appliance.wait_until("published", private_is("published, for 2 clients"))
            veilsupport(data, "onion", "client", "remove", "ada-phone", "--xmpp")
            appliance.wait_until("published", private_is("published, for 1 client"))
            await asyncio.wait_for(phone._client.wait_until("disconnected", 30), 30)
        with client_tor(net, tmp_path / "bob", bob_key) as other_socks:
            await until_reached(other_socks, onion)
        assert not await reaches(socks, onion)  # not over the circuit that was open, either
    veilsupport(data, "onion", "client", "remove", "bob-phone", "--xmpp")
    appliance.wait_until("gone", private_is("not published: no client is authorised"))
    assert not await reaches(SocksProxy(net.socks), onion)
