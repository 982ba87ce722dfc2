"""The account tried on real servers: its certificate, the sign-in, and a test message that takes nothing away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.live.ejabberd import Ejabberd
from tests.live.phone import Phone
from tests.live.prosody import Prosody
from tests.live.xmppserver import XmppServer
from tests.ports import free_port
from veilsupport.errors import SetupError, Unavailable
from veilsupport.model import Private
from veilsupport.xmpp import Account, Pace, Tls, Trust, probe

PASSWORDS = {"desk": "desk-password", "ada": "ada-password", "bob": "bob-password"}
PACE = Pace(dial=5, negotiate=5)
SERVERS = (Prosody, Ejabberd)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[XmppServer]:
    with request.param(accounts=PASSWORDS) as running:
        yield running


@pytest.fixture(scope="module")
def prosody() -> Iterator[Prosody]:
    with Prosody(accounts=PASSWORDS) as running:
        yield running


def account_at(server: XmppServer, *, password: str = PASSWORDS["desk"], tls: Tls = Tls.STARTTLS) -> Account:
    port = server.tls_port if tls is Tls.DIRECT else server.port
    return Account(Private(server.jid("desk")), Private(password), "127.0.0.1", port, tls=tls, trust=Trust.ANY)


def phone(server: XmppServer, name: str, resource: str = "phone") -> Phone:
    return Phone(server.jid(name), PASSWORDS[name], desk=server.jid("desk"), port=server.port, resource=resource)


# ---- certificate and sign-in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.DIRECT])
def test_certificate_that_nobody_vouches_for_is_shown_with_its_fingerprint(prosody: Prosody, tls: Tls) -> None:
    shown = asyncio.run(probe.certificate(account_at(prosody, tls=tls), pace=PACE))
    assert (shown.fingerprint, shown.verifies) == (prosody.fingerprint, False)
    assert "made by the server itself" in shown.words
    assert not prosody.has_signed_in(prosody.jid("desk"))


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.DIRECT])
def test_certificate_of_a_trusted_authority_verifies_for_its_own_name_only(
    prosody: Prosody, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(prosody.directory / "server.crt"))
    shown = asyncio.run(probe.certificate(account_at(prosody, tls=tls), pace=PACE))
    assert (shown.fingerprint, shown.verifies) == (prosody.fingerprint, True)
    other = Prosody(accounts=PASSWORDS, domain="chat.example")
    for name in ("server.crt", "server.key"):
        (other.directory / name).write_bytes((prosody.directory / name).read_bytes())
    with other:
        shown = asyncio.run(probe.certificate(account_at(other, tls=tls), pace=PACE))
    assert (shown.verifies, shown.words) == (False, "one for another name than the account's server")


def test_sign_in_tells_a_wrong_password_from_a_server_that_is_not_there(server: XmppServer) -> None:
    asyncio.run(probe.sign_in(account_at(server), pace=PACE))
    with pytest.raises(SetupError, match="name and password"):
        asyncio.run(probe.sign_in(account_at(server, password="wrong"), pace=PACE))
    with pytest.raises(Unavailable):
        asyncio.run(probe.sign_in(replace(account_at(server), port=free_port()), pace=PACE))
    with pytest.raises(Unavailable, match="not the one") as refused:
        asyncio.run(probe.sign_in(replace(account_at(server), trust=Trust.PIN, fingerprint="0" * 64), pace=PACE))
    assert not refused.value.temporary


def test_server_that_speaks_no_tls_there_is_said(prosody: Prosody) -> None:
    with pytest.raises(Unavailable):
        asyncio.run(probe.certificate(replace(account_at(prosody, tls=Tls.DIRECT), port=prosody.port), pace=PACE))


# ---- the test message ------------------------------------------------------------------------------------------------


async def rung(
    server: XmppServer, names: list[str], answers: Callable[[str], bool], *, stop: asyncio.Event | None = None
) -> dict[str, probe.Answer]:
    """Everybody for whom `answers` holds answers as soon as the test message is there."""
    stop = stop or asyncio.Event()
    phones = [phone(server, name) for name in names]
    async with asyncio.TaskGroup() as tasks:
        for name, each in zip(names, phones, strict=True):
            await each.__aenter__()
            if answers(name):
                tasks.create_task(_answer(each))
        ringing = tasks.create_task(
            probe.ring(account_at(server), [server.jid(name) for name in names], stop=stop, on_answer=print, pace=PACE)
        )
        for each in phones:
            await each.text("This is a test from your desk")
        if not all(map(answers, names)):
            stop.set()
        found = await asyncio.wait_for(ringing, 20)
        for name, each in zip(names, phones, strict=True):
            await each.text("Thank you" if answers(name) else "is over")
    for each in phones:
        await each.__aexit__(None, None, None)
    return {answer.admin.partition("@")[0]: answer for answer in found}


async def _answer(each: Phone) -> None:
    await each.text("This is a test from your desk")
    each.say("all well")


def test_everyone_who_answers_is_told_and_known_by_the_answers_keys(server: XmppServer) -> None:
    found = asyncio.run(rung(server, ["ada", "bob"], lambda name: True))
    assert found.keys() == {"ada", "bob"}
    assert all(answer.keys and not answer.came_back for answer in found.values())


def test_whoever_has_not_answered_when_it_is_stopped_is_told_that_it_is_over(server: XmppServer) -> None:
    found = asyncio.run(rung(server, ["ada", "bob"], lambda name: False))
    assert found == {}


@pytest.mark.parametrize("missing", ["mam", "carbons", "smacks"])
def test_answer_is_heard_on_a_poorer_server(missing: str) -> None:
    with Prosody(accounts=PASSWORDS, without=[missing]) as server:
        found = asyncio.run(rung(server, ["ada"], lambda name: True))
    assert found.keys() == {"ada"}


def test_account_that_is_not_there_is_said(server: XmppServer) -> None:
    async def story() -> tuple[probe.Answer, ...]:
        ringing = probe.ring(
            account_at(server), [server.jid("nobody")], stop=asyncio.Event(), on_answer=print, pace=PACE
        )
        return await asyncio.wait_for(ringing, 20)

    [answer] = asyncio.run(story())
    assert answer.came_back


@pytest.mark.parametrize("without", [[], ["mam"]])
def test_lines_meant_for_the_desk_still_wait_for_it(without: list[str]) -> None:
    """What the server kept before, and what comes meanwhile for a visitor, reaches whoever signs in as the desk."""
    lines = ["before", "@heron-42 hello", "!list"]

    async def story(server: XmppServer) -> list[str]:
        async with phone(server, "ada") as ada:
            ada.say(lines[0])
            ringing = asyncio.ensure_future(
                probe.ring(account_at(server), [server.jid("ada")], stop=asyncio.Event(), on_answer=print, pace=PACE)
            )
            await ada.text("This is a test")
            for line in lines[1:]:
                ada.say(line)
            await asyncio.sleep(1)
            assert not ringing.done()
            ada.say("all well")
            [answer] = await asyncio.wait_for(ringing, 20)
            assert answer.keys
        async with Phone(
            server.jid("desk"), PASSWORDS["desk"], desk=server.jid("ada"), port=server.port, resource="veilsupport"
        ) as desk:
            await desk.text("!list")
            return [got.body for got in desk.inbox]

    with Prosody(accounts=PASSWORDS, without=without) as server:
        assert [line for line in asyncio.run(story(server)) if line in lines] == lines
