"""The desk's account, tried before it is used: the server's certificate, the sign-in, and a test message to the admins.

What the desk will need later is left where it is:

1. We are a device of our own, below the priority at which a server hands out what waits for the account (RFC 6121
   §8.5.2.2), so that it still waits for the desk. Answers come as carbon copies, or are read in the archive.
2. No cursor is moved and nothing is confirmed to anyone. The first answer of each admin is known by its keys (as
   intake.py makes them), so that the desk can pass over it: it was meant for nobody. All else stays the desk's.
3. What the desk itself does in every session is done here too: asking an admin for leave to see them, giving ours.

Knows no desk and no settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

from veilsupport.errors import SetupError, Unavailable
from veilsupport.xmpp import signals, stanzas
from veilsupport.xmpp.account import Account, Trust
from veilsupport.xmpp.archive import Archive
from veilsupport.xmpp.line import Declined, Line
from veilsupport.xmpp.signals import Asked, Heard, Lost, Signal
from veilsupport.xmpp.stanzas import Reading
from veilsupport.xmpp.supervise import OVER_TOR, Pace
from veilsupport.xmpp.transport import Transport

TEST: Final = "This is a test from your desk. Answer with anything, and it is set up rightly."
THANKS: Final = "Thank you, your answer has come. From now on visitors write to you by this account."
OVER: Final = "The test is over; it needs no answer any more."

_RESOURCE: Final = "veilsupport-setup"  # not the desk's: that one may wait for it
_NO_PIN: Final = "0" * 64  # of no certificate
_PRIORITY: Final = -1
_LOOK_SECONDS: Final = 2.0  # between two looks into the archive
_GOODBYE_SECONDS: Final = 2.0
_TRUSTED: Final = "valid for the account's server, says an authority that this machine trusts"
_DOUBTS: Final = {  # X509_verify_cert_error_string(3)
    9: "not valid yet, or this machine's clock is wrong",
    10: "expired, or this machine's clock is wrong",
    18: "made by the server itself, so that nobody vouches for it",
    19: "vouched for by nobody whom this machine trusts",
    20: "vouched for by nobody whom this machine trusts",
    21: "vouched for by nobody whom this machine trusts",
    62: "one for another name than the account's server",
}


# ---- the certificate -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the server shows. `fingerprint`: SHA-256 of its DER form, 64 hexadecimal digits. `words` name nobody."""

    fingerprint: str
    verifies: bool  # for the JID's domain, by an authority that this machine trusts
    words: str


class _Look(Transport):
    """Dials, looks at the certificate and hangs up: nothing is ever said over TLS."""

    def __init__(self, account: Account, *, dial_seconds: float) -> None:
        super().__init__(account, credentials=_credentials(), dial_seconds=dial_seconds)
        self.fingerprint = ""
        self.doubt = 0  # OpenSSL's number for what is wrong with it

    def _is_pinned(self, tls: Any) -> bool:
        self.fingerprint = hashlib.sha256(tls.getpeercert(True)).hexdigest()
        return False

    async def _dial(self, host: str, port: int, server_hostname: str | None) -> None:
        try:
            await super()._dial(host, port, server_hostname)
        except ssl.SSLCertVerificationError as error:
            self.doubt = error.verify_code
            raise

    def _on_bad_chain(self, error: ssl.SSLError) -> None:
        self.doubt = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
        super()._on_bad_chain(error)


async def certificate(account: Account, *, pace: Pace = OVER_TOR) -> Certificate:
    """The server's certificate; `account.tls` is not NONE. The password is not used. Unavailable: none was shown."""
    strict = await _looked(replace(account, trust=Trust.VERIFY, fingerprint=""), pace)
    if strict.fingerprint:
        return Certificate(strict.fingerprint, verifies=True, words=_TRUSTED)
    if strict.trouble is not signals.UNTRUSTED:
        raise _unavailable(strict.trouble)
    lax = await _looked(replace(account, trust=Trust.PIN, fingerprint=_NO_PIN), pace)
    if not lax.fingerprint:
        raise _unavailable(lax.trouble)
    words = _DOUBTS.get(strict.doubt, "not one that this machine can check")
    return Certificate(lax.fingerprint, verifies=False, words=words)


async def _looked(account: Account, pace: Pace) -> _Look:
    look = _Look(account, dial_seconds=pace.dial)
    try:
        await _dialled(look, pace)
    finally:
        look.drop()
    return look


# ---- signing in ------------------------------------------------------------------------------------------------------


async def sign_in(account: Account, *, pace: Pace = OVER_TOR) -> None:
    """Sign in and out. SetupError: name or password are wrong. Unavailable: it did not come so far."""
    async with _session(account, (), lambda signal: None, pace):
        pass


@contextlib.asynccontextmanager
async def _session(
    account: Account, admins: Collection[str], hear: Callable[[Signal], None], pace: Pace
) -> AsyncIterator[Line]:
    line = Line(
        replace(account, resource=_RESOURCE),
        admins=admins,
        credentials=_credentials(),
        dial_seconds=pace.dial,
        hear=hear,
    )
    try:
        await _dialled(line, pace)
        if line.trouble is signals.WRONG_PASSWORD:
            raise SetupError(
                "The server does not accept the account's name and password.",
                hint="Look at both; the account must have been made on the server before.",
            )
        if not line.up.is_set():
            raise _unavailable(line.trouble)
        yield line
        await line.close(_GOODBYE_SECONDS)
    finally:
        line.drop()


async def _dialled(link: Transport, pace: Pace) -> None:
    """Until there is a session, or no connection."""
    link.open()
    ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(each.wait()) for each in (link.up, link.gone)]
    try:
        limit = pace.dial + pace.negotiate
        await asyncio.wait([*ends, link.bug], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
    if link.bug.done():
        link.bug.result()
    if not link.up.is_set():
        link.cut(signals.NO_SESSION)


def _credentials() -> tuple[str, str]:
    """A circuit of its own for each dial: one that is bad must not spoil the next try."""
    return "setup", secrets.token_hex(8)


def _unavailable(trouble: signals.Trouble | None) -> Unavailable:
    trouble = trouble or signals.HUNG_UP
    return Unavailable(trouble.words, temporary=not trouble.refused)


# ---- the test message ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the test message to that admin; `keys`: under which the desk may come to see the answer."""

    admin: str = field(repr=False)  # bare JID
    came_back: bool = False  # the message did: the account is not there, or takes nothing from us
    keys: frozenset[str] = field(default=frozenset(), repr=False)


async def ring(
    account: Account,
    admins: Collection[str],
    *,
    stop: asyncio.Event,
    on_answer: Callable[[Answer], None],
    pace: Pace = OVER_TOR,
) -> tuple[Answer, ...]:
    """Send each of these bare JIDs the test message, until all have answered or `stop` is set.

    The message goes in the clear, and holds no word of anyone. SetupError and Unavailable as for `sign_in`.
    """
    heard: asyncio.Queue[Signal] = asyncio.Queue()
    async with _session(account, admins, heard.put_nowait, pace) as line:
        test = _Test(line, admins, on_answer)
        await test.begin()
        await test.listen(heard, stop)
        await test.end()
    return tuple(test.answers.values())


class _Test:
    """The test message under way, in one session."""

    def __init__(self, line: Line, admins: Collection[str], on_answer: Callable[[Answer], None]) -> None:
        self.answers: dict[str, Answer] = {}
        self._line = line
        self._archive = Archive(line)
        self._seen = ""  # the archive has been read up to there
        self._ids = {admin: f"test-{secrets.token_hex(8)}" for admin in admins}
        self._first: dict[str, str] = {}  # admin → stanza id of the answer
        self._on_answer = on_answer

    async def begin(self) -> None:
        self._seen = await self._archive.newest()
        await self._line.ask("set", Element("{urn:xmpp:carbons:2}enable"))  # a server without them says no
        await self._befriend()
        self._line.send_presence(ppriority=_PRIORITY)
        for admin in self._ids:
            self._write(admin, TEST, self._ids[admin])
        await self._line.settled()

    async def listen(self, heard: asyncio.Queue[Signal], stop: asyncio.Event) -> None:
        stopped = asyncio.create_task(stop.wait())
        try:
            while len(self.answers) < len(self._ids) and not stop.is_set():
                next_one = asyncio.create_task(heard.get())
                await asyncio.wait((next_one, stopped), timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if next_one.done():
                    self._hear(next_one.result())
                else:
                    next_one.cancel()
                    await self._look()
        finally:
            stopped.cancel()

    async def end(self) -> None:
        await self._look()  # for the key under which the archive holds a live answer
        for admin in self._ids:
            answer = self.answers.get(admin)
            if answer is None or not answer.came_back:
                self._write(admin, THANKS if answer else OVER)
        await self._line.settled()

    def _hear(self, signal: Signal) -> None:
        match signal:
            case Asked():
                self._line.acknowledge(signal)
            case Lost():
                raise _unavailable(self._line.trouble)
            case Heard(message):
                copy = stanzas.carbon(message, own=self._line.own)
                if copy is None:
                    self._take(message)
                elif not copy[0] and copy[1] is not None:
                    self._take(copy[1])

    async def _look(self) -> None:
        if not self._archive.exists:
            return
        async for page in self._archive.pages(after=self._seen):
            for archived in page:
                self._take(archived.message, archived.id)
                self._seen = archived.id

    def _take(self, message: Element, archive_id: str = "") -> None:
        reading = stanzas.read(message, own=self._line.own)
        admin = reading.sender
        if admin not in self._ids:
            return
        if reading.is_error:
            self._came_back(admin, reading.id)
        elif self._is_answer(reading) and self._first.setdefault(admin, reading.id) == reading.id:
            names = [f"{message.get('from')}#{reading.id}"] if reading.id else []
            names += [f"{self._line.own}#{each}" for each in (archive_id, reading.archive_id) if each]
            self._note(Answer(admin, keys=frozenset(names)))

    def _is_answer(self, reading: Reading) -> bool:
        """Not what is plainly meant for a visitor, or for the desk itself: that stays."""
        words = reading.body.lstrip()
        if reading.reply_to and reading.reply_to not in self._ids.values():
            return False
        elsewhere = words.startswith(("!", "@")) or (words.startswith(">") and TEST[:14] not in words)
        return reading.says_something and not elsewhere and not reading.retracts and not reading.replaces

    def _came_back(self, admin: str, stanza_id: str) -> None:
        if stanza_id == self._ids[admin]:
            self._note(Answer(admin, came_back=True))

    def _note(self, answer: Answer) -> None:
        before = self.answers.get(answer.admin)
        self.answers[answer.admin] = replace(answer, keys=answer.keys | before.keys) if before else answer
        if before is None:
            self._on_answer(answer)

    async def _befriend(self) -> None:
        """As the desk does when its session begins."""
        roster = await self._line.ask("get", Element("{jabber:iq:roster}query"))
        if isinstance(roster, Declined):
            return
        items = roster.iterfind("{jabber:iq:roster}query/{jabber:iq:roster}item")
        seen = {item.get("jid", "").casefold() for item in items if item.get("subscription") in ("to", "both")}
        for admin in self._ids.keys() - seen:
            self._line.send_presence(pto=admin, ptype="subscribe")

    def _write(self, admin: str, words: str, stanza_id: str = "") -> None:
        message = Element(
            "{jabber:client}message", {"to": admin, "type": "chat", "id": stanza_id or f"test-{secrets.token_hex(8)}"}
        )
        SubElement(message, "{jabber:client}body").text = words
        self._line.post(message)
