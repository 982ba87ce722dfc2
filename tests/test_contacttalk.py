"""What is taken from admins in the component form, by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from tests.contactform import ADA_JID, BERT_JID, DESK, body, contact_of, form_in, kinds
from tests.desks import ADA, BERT, NOON, start
from tests.xmppedge import answers, in_loop
from veilsupport.desk import Desk
from veilsupport.model import MessageState, Progress, Session, Typing
from veilsupport.xmpp import direct
from veilsupport.xmpp.contacttalk import FOR_NOBODY


def test_words_take_effect_once_and_are_confirmed_from_the_address_that_they_went_to(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            one, two = await start(form.desk), await start(form.desk)
            first, second = contact_of(form.desk, one), contact_of(form.desk, two)
            request = Element("{urn:xmpp:receipts}request")
            await form.hear("to the first", request, to=f"{first}/desk")
            await form.hear("to the first", request, to=first)
            await form.hear("to the second", to=second)  # the same id in another chat
            assert answers(form.desk, one) == ["to the first"]
            assert answers(form.desk, two) == ["to the second"]
            assert kinds(form.stub.taken()) == [("chat", first, ADA_JID)] * 2

    in_loop(story)


def test_a_line_without_an_id_is_taken_each_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk)
            for text in ("one", "two"):
                await form.hear(text, to=contact_of(form.desk, session), id="")
            assert answers(form.desk, session) == ["one", "two"]

    in_loop(story)


def test_commands_and_errors_are_answered_in_the_same_chat_and_others_are_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path, [ADA, BERT]) as form:
            session = await start(form.desk)
            contact = contact_of(form.desk, session)
            await form.pump()
            for number, text in enumerate(("!note kind", "!help", "!nonsense", "@nobody-7 yes", "fine")):
                await form.hear(text, to=contact, id=f"m{number}")
            said = [(each.get("to"), body(each).split(":")[0]) for each in await form.pump() if body(each)]
            assert all(each.get("from") == f"{contact}/desk" for each in form.stub.taken())
            assert (BERT_JID, "⚙ note by Ada") in said
            assert (BERT_JID, "⚙ Ada") in said
            assert (ADA_JID, "⚙ The others have your note; the visitor does not see it.") in said
            assert any(words.startswith("⚙ What you write here goes to the visitor") for _, words in said)
            assert any(words.startswith("⚙ There is no such command") for _, words in said)
            assert any(words.startswith("⚙ That names another conversation") for _, words in said)
            assert answers(form.desk, session) == ["fine"]

    in_loop(story)


def test_to_the_desk_go_commands_and_addressed_answers_only(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk)
            alias = contact_of(form.desk, session).partition("@")[0]
            await form.pump()
            await form.hear("hello?", id="m1")
            await form.hear("!list", id="m2")
            await form.hear(f"@{alias} helo", id="m3")
            correction = Element("{urn:xmpp:message-correct:0}replace", id="m3")
            await form.hear("hello", correction, id="m4")
            await form.hear("!list", correction, id="m5")
            notices = [body(each) for each in await form.pump() if body(each)]
            assert notices[0] == FOR_NOBODY
            assert notices[1].startswith(f"{alias}")
            assert notices[2] == direct.CONFLICT
            assert answers(form.desk, session) == ["hello"]

    in_loop(story)


def test_corrections_and_retractions_change_what_was_said_in_that_chat(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session, other = await start(form.desk), await start(form.desk)
            contact = contact_of(form.desk, session)
            replace = Element("{urn:xmpp:message-correct:0}replace", id="m1")
            await form.hear("helo", to=contact)
            await form.hear("hello", replace, to=contact, id="m2")
            assert answers(form.desk, session) == ["hello"]
            await form.hear("not a correction here", replace, to=contact_of(form.desk, other), id="m3")
            assert answers(form.desk, other) == ["not a correction here"]
            await form.hear("!note for us", replace, to=contact, id="m4")
            assert _states(form.desk, session) == [MessageState.RETRACTED]
            for unknown, id_ in (("m4", "m5"), ("never", "m6")):
                await form.hear("", Element("{urn:xmpp:message-retract:1}retract", id=unknown), to=contact, id=id_)
            await form.hear(
                "", Element("{urn:xmpp:message-retract:1}retract", id="m3"), to=contact_of(form.desk, other)
            )
            assert _states(form.desk, other) == [MessageState.RETRACTED]

    in_loop(story)


def _states(desk: Desk, session: Session) -> list[MessageState]:
    return [each.state for each in desk.history(session)[1:]]


def test_what_cannot_be_passed_on_is_answered_with_why(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk)
            contact = contact_of(form.desk, session)
            await form.pump()
            envelope = Element("{eu.siacs.conversations.axolotl}encrypted")
            SubElement(envelope, "{eu.siacs.conversations.axolotl}payload").text = "AAAA"
            await form.hear("encrypted", envelope, to=contact, id="m1")
            await form.hear("aesgcm://files.example/x#00", to=contact, id="m2")
            told = [body(each) for each in await form.pump() if body(each)]
            assert told == [f"⚙ {direct.ENCRYPTED}", f"⚙ {direct.FILE}"]
            assert answers(form.desk, session) == []

    in_loop(story)


def test_reading_one_chat_says_nothing_of_the_others(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            one, two = await start(form.desk), await start(form.desk)
            said = {each.get("from"): each.get("id", "") for each in await form.pump() if body(each)}
            contact = contact_of(form.desk, two)
            await form.hear("", Element("{urn:xmpp:receipts}received", id=said[f"{contact}/desk"]), to=contact)
            assert form.desk.history(two)[0].progress is Progress.ON_DEVICE
            await form.hear("", Element("{urn:xmpp:chat-markers:0}displayed", id=said[f"{contact}/desk"]), to=contact)
            assert form.desk.history(two)[0].progress is Progress.READ
            assert form.desk.history(one)[0].progress is Progress.HANDED_OVER

    in_loop(story)


def test_what_the_server_sends_back_is_due_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk)
            while await form.outgoing._send_batch():
                pass
            [_, said] = form.stub.taken()
            stanza_id = said.get("id", "")
            error = Element("{jabber:client}message", {"from": ADA_JID, "to": DESK, "type": "error", "id": stanza_id})
            await form.talk.take(error)
            await form.outgoing.acknowledged([stanza_id])
            assert form.desk.history(session)[0].progress is Progress.KEPT
            assert [each.stanza_id for each in form.desk.due(now=NOON + 61)] == [stanza_id]

    in_loop(story)


def test_typing_is_shown_both_ways_to_those_who_are_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path, [ADA, BERT]) as form:
            session = await start(form.desk)
            contact = contact_of(form.desk, session)
            await form.pump()
            form.presence(None, to=DESK)
            conversation = form.desk.conversation(session)
            assert conversation is not None
            form.contacts.typing(conversation)
            form.contacts.typing(conversation)  # a moment later: once is enough
            assert kinds(form.stub.taken()) == [("chat", f"{contact}/desk", ADA_JID)]
            with form.desk.listen(session) as page:
                await form.hear("", Element("{http://jabber.org/protocol/chatstates}composing"), to=contact)
                assert await page.next(1) == Typing("Ada")

    in_loop(story)


def test_each_admin_is_told_how_far_their_own_lines_were_read(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path, [ADA, BERT]) as form:
            session = await start(form.desk)
            contact = contact_of(form.desk, session)
            await form.look()
            await form.hear("one", to=contact, id="a1")
            await form.hear("two", to=contact, id="a2")
            await form.hear("three", to=contact, id="b1", sender=BERT_JID)
            form.stub.taken()
            form.contacts.read_up_to(session.visitor.id, 3)
            form.contacts.read_up_to(session.visitor.id, 3)
            assert _marks(form.stub.taken()) == [(ADA_JID, "a2")]
            form.contacts.read_up_to(session.visitor.id, 4)
            assert _marks(form.stub.taken()) == [(BERT_JID, "b1")]

    in_loop(story)


def _marks(posted: Sequence[Element]) -> list[tuple[str, str]]:
    marks = ((each, each.find("{urn:xmpp:chat-markers:0}displayed")) for each in posted)
    return [(each.get("to", ""), mark.get("id", "")) for each, mark in marks if mark is not None]
