"""Whom an admin's words are for, and what is shown of a visitor's: with a real desk, without a network."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

import pytest

from tests.desks import ADA, BERT, NOON, admin_of, desk_in, hand_over, start
from veilsupport import commands
from veilsupport.commands import Command
from veilsupport.desk import Desk
from veilsupport.errors import Duplicate
from veilsupport.model import Admin, Author, Delivery, DeliveryKind, Intake, Private, Session
from veilsupport.xmpp import direct, stanzas
from veilsupport.xmpp.direct import HELD_SECONDS, Direct

OWN = "desk@chat.example"
_ids = itertools.count()


class Chat:
    """A desk with two visitors, and Ada, who writes to it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.now = NOON
        self.direct = Direct(desk, clock=lambda: self.now)
        self.heard: list[str] = []

    async def visitor(self, words: str) -> tuple[Session, Delivery]:
        """A new visitor's words reach the phones."""
        session = await start(self.desk, words)
        return session, (await self.ring())[0]

    async def ring(self) -> list[Delivery]:
        """Send what is due; visitors' words only."""
        sent = await hand_over(self.desk)
        for delivery in sent:
            if delivery.kind is DeliveryKind.MESSAGE:
                self.direct.spoke(admin_of(delivery), delivery.alias)
        self.heard += [each.body for each in sent if each.kind is DeliveryKind.NOTICE and each.admin == ADA]
        return [each for each in sent if each.kind is DeliveryKind.MESSAGE]

    async def says(self, text: str, *extra: Element, by: Admin = ADA, key: str = "") -> list[str]:
        """What Ada is told about it."""
        return await self.hears(message(text, *extra, sender=by.address.reveal()), by=by, key=key)

    async def hears(self, stanza: Element, *, by: Admin = ADA, key: str = "") -> list[str]:
        self.heard.clear()
        reading = stanzas.read(stanza, own=OWN)
        handles = (direct.handle_of(by, reading.id),)
        await self.direct.take(by, reading, Intake(key or f"key-{next(_ids)}", handles=handles))
        await self.ring()
        return list(self.heard)

    def answers(self, session: Session) -> list[str]:
        return [each.body for each in self.desk.history(session) if each.author is Author.ADMIN]


def message(text: str, *extra: Element, sender: str = "ada@chat.example/phone") -> Element:
    element = Element("{jabber:client}message", {"from": sender, "type": "chat", "id": f"id-{next(_ids)}"})
    SubElement(element, "{jabber:client}body").text = text
    element.extend(extra)
    return element


def reply(to: str, *, repeats: int | None = None) -> tuple[Element, ...]:
    reference = Element("{urn:xmpp:reply:0}reply", id=to, to=OWN)
    if repeats is None:
        return (reference,)
    fallback = Element("{urn:xmpp:fallback:0}fallback", {"for": "urn:xmpp:reply:0"})
    SubElement(fallback, "{urn:xmpp:fallback:0}body", start="0", end=str(repeats))
    return reference, fallback


Story = Callable[[Chat], Awaitable[None]]


@pytest.fixture
def tell(tmp_path: Path) -> Callable[[Story], None]:
    async def told(story: Story) -> None:
        async with desk_in(tmp_path, admins=(ADA, BERT)) as desk:
            await story(Chat(desk))

    return lambda story: asyncio.run(told(story))


Tell = Callable[[Story], None]


# ---- said by the line itself -----------------------------------------------------------------------------------------


def test_address_quotation_and_reply_say_it_themselves_without_an_echo(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring1 = await chat.visitor("I am one")
        two, ring2 = await chat.visitor("I am two")
        assert await chat.says(f"@{ring1.alias} by name") == []
        assert await chat.says(f"> {stanzas.shown(ring2)}\nby quotation") == []
        assert await chat.says("by reply", *reply(ring1.stanza_id)) == []
        repeated = f"> {stanzas.shown(ring2)}\n"
        assert await chat.says(f"{repeated}by reply", *reply(ring2.stanza_id, repeats=len(repeated))) == []
        assert chat.answers(one) == ["by name", "by reply"]
        assert chat.answers(two) == ["by quotation", "by reply"]

    tell(story)


def test_reply_to_a_notice_is_placed_by_the_tag_that_it_repeats(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring = await chat.visitor("I am one")
        await chat.visitor("I am two")
        repeated = f"> [{ring.alias}] Bert: on our way\n"
        await chat.says(f"{repeated}indeed", *reply("forgotten", repeats=len(repeated)))
        assert chat.answers(one) == ["indeed"]

    tell(story)


def test_reply_with_another_address_goes_to_nobody(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring1 = await chat.visitor("I am one")
        two, ring2 = await chat.visitor("I am two")
        assert await chat.says(f"@{ring2.alias} yes", *reply(ring1.stanza_id)) == [direct.CONFLICT]
        assert chat.answers(one) == chat.answers(two) == []

    tell(story)


def test_command_in_a_reply_is_about_that_conversation(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        _, ring = await chat.visitor("I am one")
        assert await chat.says("!close", *reply(ring.stanza_id)) == [f"{ring.alias} is closed."]
        assert await chat.says("!list", *reply(ring.stanza_id)) == ["No conversation is open."]

    tell(story)


def test_words_after_a_command_go_with_it(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        _, ring1 = await chat.visitor("I am one")
        two, ring2 = await chat.visitor("I am two")
        assert "others have your note" in (await chat.says("!note wrote before", *reply(ring1.stanza_id)))[0]
        assert "others have your note" in (await chat.says(f"> {stanzas.shown(ring2)}\n!note wrote before"))[0]
        assert "Which conversation?" in (await chat.says("!note wrote before"))[0]
        assert await chat.says("!note otter-7 wrote before", *reply(ring1.stanza_id)) == [direct.CONFLICT]
        assert chat.answers(two) == []

    tell(story)


def test_what_is_said_by_command_addresses_too(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring1 = await chat.visitor("I am one")
        two, ring2 = await chat.visitor("I am two")
        await chat.says(f"@{ring1.alias} hello")
        assert await chat.says(f"!say {ring2.alias} and you") == [f"Sent to {ring2.alias}."]
        assert await chat.says("still you") == [f"→ {ring2.alias}"]
        await chat.says(f"!note {ring1.alias} wrote before")  # a note speaks to nobody
        assert await chat.says("and still") == [f"→ {ring2.alias}"]
        assert (chat.answers(one), chat.answers(two)) == (["hello"], ["and you", "still you", "and still"])

    tell(story)


def test_unknown_alias_is_answered_with_the_nearest(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        _, ring = await chat.visitor("I am one")
        animal, number = ring.alias.split("-")
        [told] = await chat.says(f"@{animal}-{int(number) + 1} hello")
        assert "nothing was sent" in told
        assert ring.alias in told

    tell(story)


# ---- not said by the line --------------------------------------------------------------------------------------------


def test_only_open_conversation_gets_it_with_an_echo(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring = await chat.visitor("I am one")
        assert await chat.says("welcome") == [f"→ {ring.alias}"]
        assert chat.answers(one) == ["welcome"]

    tell(story)


def test_the_one_addressed_last_gets_it_until_another_speaks(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring1 = await chat.visitor("I am one")
        two, ring2 = await chat.visitor("I am two")
        await chat.says(f"@{ring1.alias} hello")
        assert await chat.says("still you") == [f"→ {ring1.alias}"]
        await chat.desk.visitor_says(one, "thank you", once=b"1", now=NOON)
        await chat.ring()
        assert await chat.says("you again") == [f"→ {ring1.alias}"]
        await chat.desk.visitor_says(two, "and me?", once=b"2", now=NOON)
        await chat.ring()
        [question] = await chat.says("whom do I mean?")
        assert f"@{ring1.alias}" in question
        assert f"@{ring2.alias}" in question
        assert chat.answers(one) == ["hello", "still you", "you again"]
        assert chat.answers(two) == []

    tell(story)


def test_someone_new_makes_it_doubtful_too(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring = await chat.visitor("I am one")
        await chat.says(f"@{ring.alias} hello")
        await chat.visitor("I am two")
        assert "not clear who" in (await chat.says("yes"))[0]
        assert chat.answers(one) == ["hello"]

    tell(story)


def test_closed_or_burned_conversation_is_not_answered_by_habit(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring = await chat.visitor("I am one")
        two, _ = await chat.visitor("I am two")
        await chat.says(f"@{ring.alias} hello")
        await chat.desk.admin_commands(BERT, Command("close", ring.alias), intake=Intake("c"), now=NOON)
        assert "not clear who" in (await chat.says("are you there?"))[-1]
        assert chat.answers(one) == ["hello"]
        assert chat.answers(two) == []

    tell(story)


def test_quotation_of_nobody_knows_whom_is_held_even_if_one_is_open(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring = await chat.visitor("I am one")
        assert direct.UNKNOWN_REPLY in (await chat.says("> a secret of another\nyes"))[0]
        assert direct.UNKNOWN_REPLY in (await chat.says("yes", *reply("unknown")))[0]
        assert chat.answers(one) == []
        assert await chat.says(f"@{ring.alias}") == [f"→ {ring.alias}"]
        assert chat.answers(one) == ["> a secret of another\nyes\nyes"]

    tell(story)


def test_nobody_to_answer(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        assert "No conversation is open" in (await chat.says("hello?"))[0]

    tell(story)


# ---- held ------------------------------------------------------------------------------------------------------------


def test_held_words_go_where_the_address_says_all_of_them_once(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring1 = await chat.visitor("I am one")
        await chat.visitor("I am two")
        await chat.says("first line")
        await chat.says("second line")
        assert await chat.says(f"@{ring1.alias}") == [f"→ {ring1.alias}"]
        assert chat.answers(one) == ["first line\nsecond line"]
        assert "Nothing is held" in (await chat.says(f"@{ring1.alias}"))[0]
        assert await chat.says("and then") == [f"→ {ring1.alias}"]

    tell(story)


def test_held_words_are_forgotten_after_ten_minutes(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring1 = await chat.visitor("I am one")
        await chat.visitor("I am two")
        await chat.says("old words")
        chat.now += HELD_SECONDS
        assert "Nothing is held" in (await chat.says(f"@{ring1.alias}"))[0]
        assert chat.answers(one) == []

    tell(story)


def test_held_words_stay_held_when_the_address_is_wrong(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring1 = await chat.visitor("I am one")
        await chat.visitor("I am two")
        await chat.says("words")
        assert "nothing was sent" in (await chat.says("@nobody-0"))[0]
        await chat.says(f"@{ring1.alias}")
        assert chat.answers(one) == ["words"]

    tell(story)


def test_each_admin_has_a_context_of_their_own(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring1 = await chat.visitor("I am one")
        two, _ = await chat.visitor("I am two")
        await chat.says(f"@{ring1.alias} hello")
        await chat.says("which one?", by=BERT)
        assert chat.answers(one) == ["hello"]
        assert chat.answers(two) == []

    tell(story)


def test_repeated_stanza_changes_nothing_not_even_the_context(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring1 = await chat.visitor("I am one")
        two, ring2 = await chat.visitor("I am two")
        await chat.says(f"@{ring1.alias} hello", key="the same")
        await chat.says(f"@{ring2.alias} hello")
        with pytest.raises(Duplicate):
            await chat.says(f"@{ring1.alias} hello", key="the same")
        assert await chat.says("still two") == [f"→ {ring2.alias}"]
        assert chat.answers(one) == ["hello"]
        assert chat.answers(two) == ["hello", "still two"]

    tell(story)


# ---- not for visitors ------------------------------------------------------------------------------------------------


def _encrypted() -> Element:
    envelope = Element("{eu.siacs.conversations.axolotl}encrypted")
    SubElement(envelope, "{eu.siacs.conversations.axolotl}payload").text = "AAAA"
    return envelope


def _link(url: str) -> Element:
    link = Element("{jabber:x:oob}x")
    SubElement(link, "{jabber:x:oob}url").text = url
    return link


@pytest.mark.parametrize(
    ("text", "extra", "told"),
    [
        ("I sent you an OMEMO encrypted message", [_encrypted()], direct.ENCRYPTED),
        ("", [_encrypted()], direct.ENCRYPTED),
        ("This message is encrypted", [Element("{jabber:x:encrypted}x")], direct.ENCRYPTED),
        ("?OTR:AAMC", [], direct.ENCRYPTED),
        ("aesgcm://files.example/a.jpg#00", [], direct.FILE),
        ("https://files.example/a.jpg", [_link("https://files.example/a.jpg")], direct.FILE),
        ("photo", [Element("{urn:xmpp:sfs:0}file-sharing")], direct.FILE),
    ],
)
def test_what_cannot_be_passed_on_is_answered(tell: Tell, text: str, extra: list[Element], told: str) -> None:
    async def story(chat: Chat) -> None:
        one, _ = await chat.visitor("I am one")
        assert await chat.says(text, *extra) == [told]
        assert chat.answers(one) == []

    tell(story)


def corrects(id: str) -> Element:
    return Element("{urn:xmpp:message-correct:0}replace", id=id)


def test_correction_of_an_answer_changes_it(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring = await chat.visitor("I am one")
        _, other = await chat.visitor("I am two")
        first = message(f"@{ring.alias} at fvie")
        await chat.hears(first)
        assert await chat.says(f"@{ring.alias} at five", corrects(first.get("id", ""))) == []
        assert chat.answers(one) == ["at five"]
        for wrong in (f"@{other.alias} at five", "!close"):
            assert await chat.says(wrong, corrects(first.get("id", ""))) == [direct.CONFLICT]
        assert chat.answers(one) == ["at five"]

    tell(story)


def test_correction_by_somebody_else_or_of_a_command_is_a_new_line(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, ring = await chat.visitor("I am one")
        first = message(f"@{ring.alias} at five")
        await chat.hears(first)
        await chat.says("at six", corrects(first.get("id", "")), by=BERT)
        assert chat.answers(one) == ["at five", "at six"]
        wrong = message(f"!clsoe {ring.alias}")
        await chat.hears(wrong)
        assert await chat.says(f"!close {ring.alias}", corrects(wrong.get("id", ""))) == [f"{ring.alias} is closed."]

    tell(story)


def test_key_exchange_without_words_and_empty_bodies_say_nothing() -> None:
    keys = message("", Element("{eu.siacs.conversations.axolotl}encrypted"))
    assert not stanzas.read(keys, own=OWN).says_something
    assert not stanzas.read(message("  \n"), own=OWN).says_something


def test_link_in_a_sentence_is_no_file(tell: Tell) -> None:
    async def story(chat: Chat) -> None:
        one, _ = await chat.visitor("I am one")
        await chat.says("look at https://example.org/help")
        await chat.says("/me waves")
        assert chat.answers(one) == ["look at https://example.org/help", "/me waves"]

    tell(story)


# ---- what the phone shows --------------------------------------------------------------------------------------------


def delivery(kind: DeliveryKind, body: str, alias: str = "heron-42") -> Delivery:
    return Delivery("stanza", Admin("Ada", Private("ada@chat.example")), kind, None, alias, body)


def test_message_asks_for_receipt_and_marker_and_carries_its_alias() -> None:
    written = stanzas.write(delivery(DeliveryKind.MESSAGE, "hello"), "ada@chat.example")
    assert written.findtext("{jabber:client}body") == commands.tag("heron-42", "hello")
    assert (written.get("to"), written.get("type"), written.get("id")) == ("ada@chat.example", "chat", "stanza")
    assert {child.tag.split("}")[1] for child in written} == {"body", "origin-id", "request", "markable"}


def test_retraction_has_no_body_and_is_kept_for_absent_devices() -> None:
    written = stanzas.write(delivery(DeliveryKind.RETRACT, "earlier", alias=""), "ada@chat.example")
    retract = written.find("{urn:xmpp:message-retract:1}retract")
    assert retract is not None
    assert retract.get("id") == "earlier"
    assert {child.tag.split("}")[1] for child in written} == {"retract", "store", "origin-id"}


def test_notice_shows_its_conversation_but_an_echo_only_once() -> None:
    assert stanzas.shown(delivery(DeliveryKind.NOTICE, "Bert: yes")) == "[heron-42] Bert: yes"
    assert stanzas.shown(delivery(DeliveryKind.NOTICE, "→ heron-42")) == "→ heron-42"
    assert stanzas.shown(delivery(DeliveryKind.NOTICE, "nothing open", alias="")) == "nothing open"


def test_what_xml_cannot_carry_never_reaches_the_line() -> None:
    words = "a\ufffe\uffffb\x00c\ud800d\n\te😀"
    written = stanzas.write(delivery(DeliveryKind.MESSAGE, words), "ada@chat.example")
    assert written.findtext("{jabber:client}body") == "[heron-42] abcd\n\te😀"


@pytest.mark.parametrize("part", [("5", "2"), ("0", "999"), ("x", "1"), ("-1", "2")])
def test_nonsensical_fallback_is_ignored(part: tuple[str, str]) -> None:
    fallback = Element("{urn:xmpp:fallback:0}fallback", {"for": "urn:xmpp:reply:0"})
    SubElement(fallback, "{urn:xmpp:fallback:0}body", start=part[0], end=part[1])
    assert stanzas.read(message("some words", fallback), own=OWN).fallback is None
