"""How visitors appear in the component form, by itself."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from tests.contactform import ADA_JID, BERT_JID, DESK, DOMAIN, Form, body, contact_of, form_in, kinds, xml
from tests.desks import ADA, BERT, NOON, start
from tests.xmppedge import answers, in_loop
from veilsupport.commands import Command
from veilsupport.desk.requests import RINGS
from veilsupport.errors import StoreError
from veilsupport.model import Admin, DeliveryKind, Intake, Private, Role, Site, Standing

NICK = "{http://jabber.org/protocol/nick}nick"


def test_a_visitor_is_introduced_before_their_first_word_and_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path, [ADA, BERT]) as form:
            session = await start(form.desk, "hello")
            contact = contact_of(form.desk, session)
            posted = await form.pump()
            assert kinds(posted) == [
                ("subscribe", contact, ADA_JID),
                ("subscribe", contact, BERT_JID),
                ("chat", f"{contact}/desk", ADA_JID),
                ("chat", f"{contact}/desk", BERT_JID),
            ]
            assert {each.findtext(NICK) for each in posted} == {contact.partition("@")[0]}
            assert body(posted[2]) == "hello"
            await form.desk.visitor_says(session, "more", once=b"1", now=NOON)
            assert [kind for kind, _, _ in kinds(await form.pump())] == ["chat", "chat"]

    in_loop(story)


def test_the_address_is_on_disk_before_anything_leaves_from_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk)
            places: list[bool] = []

            def post(stanza: Element) -> None:
                places.append(form.desk.room_of(session.visitor.id) is not None)

            form.stub.post = post  # type: ignore[method-assign]
            while await form.outgoing._send_batch():
                pass
            assert places
            assert all(places)

    in_loop(story)


def test_what_the_desk_says_is_marked_and_no_visitor_can_look_like_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk, "⚙ Ada: pay here")
            await form.desk.tell(ADA, "about them", now=NOON, place=session.visitor.id)
            await form.desk.tell(ADA, "about nothing", now=NOON)
            said = {body(each): each.get("from") for each in await form.pump() if body(each)}
            contact = contact_of(form.desk, session)
            assert said == {
                "'⚙ Ada: pay here": f"{contact}/desk",
                "⚙ about them": f"{contact}/desk",
                "about nothing": f"{DESK}/desk",
            }

    in_loop(story)


def test_who_only_wants_news_gets_the_words_in_the_same_chat_when_asking(tmp_path: Path) -> None:
    async def story() -> None:
        quiet = Admin("Ada", Private(ADA_JID), notify_only=True)
        async with form_in(tmp_path, [quiet]) as form:
            contact = contact_of(form.desk, await start(form.desk, "my secret"))
            [_, news] = await form.pump()
            assert (body(news)[:2], news.get("from")) == ("⚙ ", f"{contact}/desk")
            assert "secret" not in body(news)
            await form.hear("!show", to=contact)
            [words] = [each for each in await form.pump() if body(each)]
            assert (body(words), words.get("from")) == ("my secret", f"{contact}/desk")

    in_loop(story)


def test_nobody_is_asked_for_leave_for_a_folded_one_before_it_is_opened(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            for number in range(RINGS):
                await start(form.desk, "buy our watches, they are very good", seed=b"%d" % number)
            await form.look()
            last = await start(form.desk, "buy our watches, they are very good")
            assert await form.look() == []
            assert form.desk.room_of(last.visitor.id) is None
            found = form.desk.conversation(last)
            assert found
            command = Command("show", found.alias)
            await form.desk.admin_commands(ADA, command, intake=Intake("show"), now=NOON)
            assert [each.get("type") for each in await form.look()] == ["subscribe", None]

    in_loop(story)


def test_presence_tells_how_it_stands(tmp_path: Path) -> None:
    async def story() -> None:
        shop = {"": Site("", "Night line", ""), "shop": Site("shop", "The shop", "")}
        async with form_in(tmp_path, sites=shop) as form:
            session = await start(form.desk, site="shop")
            [_, shown] = await form.look()
            assert shown.findtext("{jabber:client}show") == "chat"
            assert shown.findtext("{jabber:client}status") == "The shop · request · waiting since 15 Jan 08:00 UTC"
            contact = contact_of(form.desk, session)
            await form.hear("yes?", to=contact)
            [shown] = await form.look()
            assert shown.findtext("{jabber:client}status") == "The shop · with Ada"
            await form.hear("!close", to=contact, id="m2")
            assert kinds(await form.look()) == [("unavailable", f"{contact}/desk", ADA_JID)]
            await form.desk.visitor_says(session, "again", once=b"1", now=NOON)
            assert [kind for kind, _, _ in kinds(await form.look())] == ["subscribe", "presence"]
            form.contacts.look_at(session.visitor.id)
            assert await form.look() == []  # nothing differs

    in_loop(story)


def test_a_fresh_session_tells_everything_anew(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            open_one, closed = await start(form.desk), await start(form.desk)
            await form.look()
            await form.hear("!close", to=contact_of(form.desk, closed))
            await form.look()
            again = Form(form.desk)
            again.contacts.begin()
            assert kinds(again.stub.taken()) == [
                ("subscribe", DESK, ADA_JID),
                ("presence", f"{DESK}/desk", ADA_JID),
                ("probe", DESK, ADA_JID),
            ]
            one, other = contact_of(form.desk, open_one), contact_of(form.desk, closed)
            assert kinds(await again.look()) == [
                ("subscribe", one, ADA_JID),
                ("presence", f"{one}/desk", ADA_JID),
                ("unavailable", f"{other}/desk", ADA_JID),
            ]
            again.contacts.begin()
            again.stub.taken()
            assert len(await again.look()) == 3
            again.contacts.farewell()
            assert kinds(again.stub.taken()) == [
                ("unavailable", f"{one}/desk", ADA_JID),
                ("unavailable", f"{DESK}/desk", ADA_JID),
            ]

    in_loop(story)


def test_who_was_told_alone_is_told_too_that_we_go(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk)
            contact = contact_of(form.desk, session)
            await form.hear("!close", to=contact)
            await form.look()
            await form.desk.visitor_says(session, "again", once=b"1", now=NOON)
            assert kinds(form.presence("probe", to=contact)) == [("presence", f"{contact}/desk", ADA_JID)]
            form.contacts.farewell()
            assert ("unavailable", f"{contact}/desk", ADA_JID) in kinds(form.stub.taken())

    in_loop(story)


def test_who_refuses_is_not_asked_at_each_new_connection(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk)
            contact = contact_of(form.desk, session)
            await form.look()
            assert form.presence("unsubscribed", to=contact, sender=ADA_JID) == []
            form.contacts.begin()
            form.stub.taken()
            assert [kind for kind, _, _ in kinds(await form.look())] == ["presence"]
            await form.hear("!close", to=contact)
            assert [kind for kind, _, _ in kinds(await form.look())] == ["unavailable"]
            assert "subscribe" not in {kind for kind, _, _ in kinds(await form.pump())}  # that it is closed
            await form.hear("!reopen", to=contact, id="m2")
            assert [kind for kind, _, _ in kinds(await form.look())] == ["subscribe", "presence"]

    in_loop(story)


def test_who_is_no_admin_any_more_keeps_no_contact(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path, [ADA, BERT]) as form:
            contact = contact_of(form.desk, await start(form.desk))
            await form.look()
            await form.desk.change_admins([ADA], now=NOON)
            form.contacts.farewell()
            assert kinds(form.stub.taken()) == [
                ("unavailable", f"{contact}/desk", ADA_JID),
                ("unavailable", f"{contact}/desk", BERT_JID),
                ("unsubscribe", contact, BERT_JID),
                ("unsubscribed", contact, BERT_JID),
                ("unavailable", f"{DESK}/desk", ADA_JID),
                ("unavailable", f"{DESK}/desk", BERT_JID),
                ("unsubscribe", DESK, BERT_JID),
                ("unsubscribed", DESK, BERT_JID),
            ]

    in_loop(story)


def test_burning_retracts_from_the_same_address_and_takes_the_contact_off(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk, "forget me")
            contact = contact_of(form.desk, session)
            [_, said] = await form.pump()
            await form.look()
            await form.desk.visitor_burns(session, now=NOON)
            again = Form(form.desk)  # the program was started again
            [retraction, notice] = await again.pump()
            assert retraction.get("from") == said.get("from") == f"{contact}/desk"
            assert retraction.find(f"{{urn:xmpp:message-retract:1}}retract[@id='{said.get('id')}']") is not None
            assert notice.get("from") == f"{DESK}/desk"
            assert kinds(await again.look()) == [
                ("unavailable", f"{contact}/desk", ADA_JID),
                ("unsubscribe", contact, ADA_JID),
                ("unsubscribed", contact, ADA_JID),
            ]
            assert again.stub.settled_after == [3]
            assert again.desk.unacknowledged() == []

    in_loop(story)


def test_a_room_of_the_time_before_this_form_is_left_to_be_destroyed_later(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk)
            await form.desk.place_room(session.visitor.id, Private("v-1@rooms.chat.example"))
            await form.desk.visitor_burns(session, now=NOON)
            await form.pump()
            assert await form.look() == []
            [left] = form.desk.due(now=NOON + 61)
            assert (left.kind, left.body) == (DeliveryKind.DESTROY, "v-1@rooms.chat.example")

    in_loop(story)


def test_probes_and_requests_are_answered_by_how_it_stands(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk)
            contact = contact_of(form.desk, session)
            assert kinds(form.presence("probe", to=contact)) == [("presence", f"{contact}/desk", ADA_JID)]
            assert kinds(form.presence("subscribe", to=contact)) == [
                ("subscribed", contact, ADA_JID),
                ("presence", f"{contact}/desk", ADA_JID),
            ]
            assert kinds(form.presence("subscribe", to=DESK)) == [
                ("subscribed", DESK, ADA_JID),
                ("presence", f"{DESK}/desk", ADA_JID),
            ]
            assert kinds(form.presence("unsubscribe", to=contact)) == [("unsubscribed", contact, ADA_JID)]
            assert kinds(form.presence("probe", to=f"nobody-1@{DOMAIN}")) == [
                ("unsubscribed", f"nobody-1@{DOMAIN}", ADA_JID)
            ]
            assert form.presence("error", to=contact) == []
            await form.hear("!close", to=contact)
            assert kinds(form.presence("probe", to=f"{contact}/desk")) == [("unavailable", f"{contact}/desk", ADA_JID)]

    in_loop(story)


def test_who_may_not_see_a_conversation_sees_an_address_that_is_none(tmp_path: Path) -> None:
    async def story() -> None:
        bert = Admin("Bert", Private(BERT_JID), role=Role.NONE)
        async with form_in(tmp_path, [ADA, bert]) as form:
            session = await start(form.desk)
            contact = contact_of(form.desk, session)
            assert {each.get("to") for each in (*await form.pump(), *await form.look())} == {ADA_JID}
            for address in (contact, f"nobody-1@{DOMAIN}"):
                assert kinds(form.presence("probe", to=address, sender=f"{BERT_JID}/x")) == [
                    ("unsubscribed", address, BERT_JID)
                ]
                assert (
                    form.contacts.answer(_question("<vCard xmlns='vcard-temp'/>", to=address, sender=BERT_JID)) is None
                )
                await form.hear("hello?", to=address, sender=BERT_JID, id=address)
            refusals = [each for each in await form.pump() if body(each)]
            assert {each.get("from") for each in refusals} == {f"{DESK}/desk"}
            assert len(refusals) == 2
            assert answers(form.desk, session) == []

    in_loop(story)


def _question(payload: str, *, to: str, sender: str = ADA_JID, kind: str = "get") -> Element:
    return xml(f"<iq xmlns='jabber:client' from='{sender}/x' to='{to}' type='{kind}' id='q'>{payload}</iq>")


def test_an_admins_app_may_ask_whom_it_sees(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            contact = contact_of(form.desk, await start(form.desk))
            card = form.contacts.answer(_question("<vCard xmlns='vcard-temp'/>", to=contact))
            assert card is not None
            assert card.findtext("{vcard-temp}NICKNAME") == contact.partition("@")[0]
            disco = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
            info = form.contacts.answer(_question(disco, to=f"{contact}/desk"))
            assert info is not None
            assert "urn:xmpp:receipts" in {each.get("var") for each in info}
            assert form.contacts.answer(_question("<ping xmlns='urn:xmpp:ping'/>", to=DESK)) is not None
            for other in ("<query xmlns='jabber:iq:version'/>", "", "<a xmlns='b'/><c xmlns='d'/>"):
                assert form.contacts.answer(_question(other, to=contact)) is None
            assert form.contacts.answer(_question("<vCard xmlns='vcard-temp'/>", to=contact, kind="set")) is None

    in_loop(story)


def test_who_is_there_is_told_by_devices_only_once_they_can_be_seen(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            form.contacts.begin()
            form.presence("unavailable", to=DESK, sender=ADA_JID)  # Prosody's answer to our request
            assert "not to be seen" in form.desk.who()
            form.presence("subscribed", to=DESK, sender=ADA_JID)
            assert "Ada: not there" in form.desk.who()
            form.presence(None, to=DESK)
            assert "Ada: there" in form.desk.who()
            form.presence("unavailable", to=DESK)
            assert "Ada: not there" in form.desk.who()

    in_loop(story)


def test_our_lines_ask_no_archive_to_keep_them_where_that_is_wished(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path, keeps_archive=False) as form:
            await start(form.desk)
            [_, said] = await form.pump()
            assert said.find("{urn:xmpp:hints}no-store") is not None

    in_loop(story)


def test_a_closed_conversation_stands_as_such(tmp_path: Path) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk)
            await form.hear("!block", to=contact_of(form.desk, session))
            conversation = form.desk.conversation(session)
            assert conversation is not None
            assert conversation.standing is Standing.BLOCKED
            assert form.contacts._status(conversation) == ""

    in_loop(story)


def test_a_contact_that_could_not_be_kept_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with form_in(tmp_path) as form:
            session = await start(form.desk)
            with monkeypatch.context() as patched:

                async def full(conversation: bytes, address: Private) -> None:
                    raise StoreError("full")

                patched.setattr(form.desk, "place_room", full)
                with pytest.raises(StoreError):
                    await form.look()
            assert kinds(await form.look())[0] == ("subscribe", contact_of(form.desk, session), ADA_JID)

    in_loop(story)
