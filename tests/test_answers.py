"""What admins say, over a real store: claims, corrections, retractions, and those who are only told."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest

from tests import scenes
from tests.desks import ADA, BERT, NOON, bodies, hand_over, intake, start
from tests.scenes import CLEO, QUIET, Scene, Tell
from veilsupport.commands import Command
from veilsupport.errors import AdminError, Duplicate, NotFound
from veilsupport.model import (
    Changed,
    DeliveryKind,
    Intake,
    MessageState,
    Role,
    Typing,
)


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    return functools.partial(scenes.tell, tmp_path)


# ---- claims ----------------------------------------------------------------------------------------------------------


def test_first_answer_claims_and_the_others_are_told_once(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        await scene.desk.admin_says(ADA, heron.alias, "hi", intake=intake(), now=NOON)
        assert await scene.told() == [
            ("Bert", heron.alias, "Ada: hi"),
            ("Bert", heron.alias, f"Ada answers {heron.alias}."),
        ]
        await scene.desk.admin_says(BERT, heron.alias, "me too", intake=intake(), now=NOON)  # it is not his: no matter
        assert await scene.told() == [("Ada", heron.alias, "Bert: me too")]
        assert scene.owner(heron) == "Ada"
        assert scene.answers(session) == ["hi", "me too"]

    tell(story)


def test_first_answer_in_a_room_is_told_in_the_staff_room(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        await scene.desk.admin_says(ADA, heron.alias, "hi", intake=intake(), now=NOON, in_room=True)
        assert await scene.told() == [("staff room", "", f"Ada answers {heron.alias}.")]
        await scene.desk.admin_says(BERT, heron.alias, "hi", intake=intake(), now=NOON, in_room=True)
        assert await scene.told() == []

    tell(story, rooms=True)


def test_who_is_no_admin_any_more_owns_nothing(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        await scene.desk.admin_says(BERT, heron.alias, "hi", intake=intake(), now=NOON)
        await scene.desk.change_admins([ADA, CLEO], now=NOON)
        await scene.told()
        assert scene.owner(heron) == ""
        await scene.desk.admin_says(ADA, heron.alias, "hi", intake=intake(), now=NOON)
        assert ("Cleo", heron.alias, f"Ada answers {heron.alias}.") in await scene.told()
        assert scene.owner(heron) == "Ada"

    tell(story)


def test_claim_says_whose_it_was(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        assert await scene.and_all(f"!claim {heron.alias}") == [
            ("Ada", heron.alias, f"{heron.alias} is yours now."),
            ("Bert", heron.alias, f"Ada has taken {heron.alias}."),
        ]
        assert await scene.and_all(f"!claim {heron.alias}") == [
            ("Ada", heron.alias, f"{heron.alias} is yours already.")
        ]
        assert await scene.and_all(f"!claim {heron.alias}", BERT) == [
            ("Bert", heron.alias, f"{heron.alias} is yours now. It was Ada's."),
            ("Ada", heron.alias, f"Bert has taken {heron.alias}. It was Ada's."),
        ]
        assert scene.owner(heron) == "Bert"

    tell(story)


def test_claim_in_rooms_is_told_in_the_staff_room_once(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        changed: list[bytes] = []
        scene.desk.on_changed = changed.append
        assert await scene.and_all("!claim", place=heron) == [
            ("room", heron.alias, f"{heron.alias} is yours now."),
            ("staff room", "", f"Ada has taken {heron.alias}."),
        ]
        assert await scene.and_all(f"!claim {heron.alias}", BERT, staff=True) == [
            ("staff room", "", f"{heron.alias} is yours now. It was Ada's.")
        ]
        assert changed == [heron.id, heron.id]

    tell(story, rooms=True)


def test_assign_tells_the_one_who_gets_it_and_the_others(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor(site="shop")
        assert await scene.and_all(f"!assign {heron.alias} bert") == [
            ("Ada", heron.alias, f"{heron.alias} is Bert's now."),
            ("Bert", heron.alias, f"Ada has given {heron.alias} to you."),
            ("Cleo", heron.alias, f"Ada has given {heron.alias} to Bert."),
        ]
        assert await scene.writes(f"!assign {heron.alias} Bert") == f"{heron.alias} is Bert's already."
        assert await scene.writes(f"!assign {heron.alias} Ada") == f"{heron.alias} is yours now. It was Bert's."
        assert "Did you mean Bert?" in await scene.writes(f"!assign {heron.alias} Brt")
        assert "!who shows" in await scene.writes(f"!assign {heron.alias} Zacharias")
        assert scene.owner(heron) == "Ada"
        _, own = await scene.visitor()
        assert "Cleo may not answer" in await scene.writes(f"!assign {own.alias} Cleo")
        assert scene.owner(own) == ""

    tell(story, ADA, BERT, CLEO)


def test_assign_in_rooms(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor()
        assert await scene.and_all("!assign Bert", place=heron) == [
            ("room", heron.alias, f"{heron.alias} is Bert's now."),
            ("Bert", heron.alias, f"Ada has given {heron.alias} to you."),
            ("staff room", "", f"Ada has given {heron.alias} to Bert."),
        ]

    tell(story, rooms=True)


def test_what_is_burned_at_this_very_moment_is_neither_changed_nor_claimed(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        await scene.desk.admin_says(BERT, heron.alias, "hi", intake=named("bert#1"), now=NOON)
        await scene.desk.change_admins([ADA], now=NOON)  # Bert's is nobody's now

        async def burned(*_: object, **__: object) -> None:
            raise NotFound("gone")

        scene.desk.store.set_owner = burned  # type: ignore[method-assign]
        await scene.desk.admin_says(ADA, heron.alias, "hi", intake=intake(), now=NOON)
        found = scene.desk.store.handled(scene.desk._hashed("bert#1"))
        await scene.desk.visitor_burns(session, now=NOON)
        scene.desk.store.handled = lambda _: found  # type: ignore[method-assign, assignment]
        with pytest.raises(AdminError, match="is gone"):
            await scene.desk.admin_retracts(ADA, "bert#1", intake=intake(), now=NOON)

    tell(story)


def test_typing_is_shown_of_those_who_may_answer_where_the_site_shows_it(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        with scene.desk.listen(session) as page:
            for admin, shown in ((ADA, True), (CLEO, False)):
                scene.desk.admin_types(admin, heron.alias)
                assert await page.next(0) == (Typing(admin.name) if shown else None)
            scene.desk.sites = {"": replace(scenes.SITES[""], typing=False)}
            scene.desk.admin_types(ADA, heron.alias)
            scene.desk.admin_types(ADA, "qq-1")
            assert await page.next(0) is None

    tell(story)


# ---- told only that there is something -------------------------------------------------------------------------------


@pytest.mark.parametrize("rooms", [False, True])
def test_who_is_only_told_gets_the_words_on_request(tell: Tell, rooms: bool) -> None:
    async def story(scene: Scene) -> None:
        session = await start(scene.desk, "a secret")
        [alias] = scene.desk.open_aliases()
        due = await hand_over(scene.desk)
        quiet = [(each.kind, each.alias, each.body) for each in due if each.admin == QUIET]
        assert quiet == [(DeliveryKind.NEWS, alias, "New message. !show brings it.")]
        assert bodies([each for each in due if each.admin != QUIET]) == ["a secret"]  # once: a room, or Ada's chat
        await scene.desk.admin_says(ADA, alias, "another secret", intake=intake(), now=NOON)
        assert "secret" not in "".join(words for whose, _, words in await scene.told() if whose == "Quinn")
        await scene.desk.admin_commands(QUIET, Command("show", alias), intake=intake(), now=NOON)
        [shown] = await hand_over(scene.desk)
        assert (shown.kind, shown.admin, shown.body) == (DeliveryKind.MESSAGE, QUIET, "a secret")
        await scene.desk.delivery_read(shown.stanza_id, QUIET)
        assert scene.desk.progress(session)[0][1].name == "READ"
        for by in (QUIET, ADA):
            assert await scene.writes(f"!show {alias}", by) == "Nothing is held back from you."

    tell(story, ADA, QUIET, rooms=rooms)


def test_without_a_name_everything_is_shown(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        for body in ("one", "two"):
            await scene.visitor(body)
        await scene.desk.admin_commands(QUIET, Command("show"), intake=intake(), now=NOON)
        assert bodies(await hand_over(scene.desk)) == ["one", "two"]
        assert await scene.writes("!show", QUIET) == "Nothing is held back from you."
        await scene.visitor("three")
        await scene.desk.change_admins([ADA, replace(QUIET, roles=(("", Role.NONE),))], now=NOON)
        assert await scene.writes("!show", QUIET) == "Nothing is held back from you."

    tell(story, ADA, QUIET)


def test_a_repetition_shows_nothing_that_came_later(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        stanza = intake()
        for body in ("one", "two"):
            await scene.visitor(body)
        await scene.desk.admin_commands(QUIET, Command("show"), intake=stanza, now=NOON)
        assert bodies(await hand_over(scene.desk)) == ["one", "two"]
        await scene.visitor("three")
        with pytest.raises(Duplicate):
            await scene.desk.admin_commands(QUIET, Command("show"), intake=stanza, now=NOON)
        assert bodies(await hand_over(scene.desk)) == []

    tell(story, ADA, QUIET)


def test_what_is_asked_for_in_the_staff_room_comes_into_the_chat(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        _, heron = await scene.visitor("a secret")
        await scene.desk.admin_commands(QUIET, Command("show", heron.alias), intake=intake(), now=NOON, staff=True)
        due = await hand_over(scene.desk)
        assert [(each.admin and each.admin.name, each.body) for each in due] == [
            ("Quinn", "a secret"),
            (None, "It comes into your chat with the desk."),
        ]

    tell(story, ADA, QUIET, rooms=True)


# ---- corrections -----------------------------------------------------------------------------------------------------


def named(*handles: str) -> Intake:
    return replace(intake(), handles=handles)


@pytest.mark.parametrize("rooms", [False, True])
def test_a_correction_changes_what_the_visitor_sees(tell: Tell, rooms: bool) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        await scene.desk.admin_says(ADA, heron.alias, "at fvie", intake=named("ada#1"), now=NOON, in_room=rooms)
        await scene.told()
        with scene.desk.listen(session) as page:
            await scene.desk.admin_corrects(ADA, "ada#1", "at five", intake=named("ada#2"), now=NOON, in_room=rooms)
            changed = await page.next(1)
        assert isinstance(changed, Changed)
        last = scene.desk.history(session)[-1]
        assert (changed.message, last.body, last.name, last.state) == (last, "at five", "Ada", MessageState.CORRECTED)
        assert await scene.told() == ([] if rooms else [("Bert", heron.alias, "Ada corrected: at five")])
        await scene.desk.admin_corrects(
            ADA, "ada#2", "at six", intake=intake(), now=NOON, in_room=True
        )  # the correction itself
        assert scene.answers(session) == ["at six"]

    tell(story, rooms=rooms)


def test_a_retraction_leaves_nothing_of_the_words_and_is_final(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        await scene.desk.admin_says(ADA, heron.alias, "oh no", intake=named("ada#1"), now=NOON)
        await scene.told()
        stanza = intake()
        await scene.desk.admin_retracts(ADA, "ada#1", intake=stanza, now=NOON)
        last = scene.desk.history(session)[-1]
        assert (last.body, last.state) == ("", MessageState.RETRACTED)
        assert await scene.told() == [("Bert", heron.alias, "Ada took an answer back.")]
        with pytest.raises(Duplicate):
            await scene.desk.admin_retracts(ADA, "ada#1", intake=stanza, now=NOON)
        with pytest.raises(AdminError, match="took that back"):
            await scene.desk.admin_corrects(ADA, "ada#1", "oh yes", intake=intake(), now=NOON)

    tell(story)


def test_what_is_not_known_or_not_theirs_is_not_changed(tell: Tell) -> None:
    async def story(scene: Scene) -> None:
        session, heron = await scene.visitor()
        await scene.desk.admin_says(ADA, heron.alias, "hi", intake=named("ada#1"), now=NOON)
        for handle in ("bert#1", "ada#2", ""):
            with pytest.raises(AdminError, match="not known here"):
                await scene.desk.admin_corrects(BERT, handle, "ha", intake=intake(), now=NOON)
            with pytest.raises(AdminError, match="not known here"):
                await scene.desk.admin_retracts(BERT, handle, intake=intake(), now=NOON)
        with pytest.raises(AdminError, match="nothing in your message"):
            await scene.desk.admin_corrects(ADA, "ada#1", " ", intake=intake(), now=NOON)
        for role, why in ((Role.READS, "not yours"), (Role.NONE, "not known here")):
            await scene.desk.change_admins([replace(ADA, role=role), BERT], now=NOON)
            with pytest.raises(AdminError, match=why):
                await scene.desk.admin_corrects(ADA, "ada#1", "ha", intake=intake(), now=NOON)
        await scene.desk.change_admins([ADA, BERT], now=NOON)
        await scene.desk.visitor_burns(session, now=NOON)
        with pytest.raises(AdminError, match="not known here"):
            await scene.desk.admin_corrects(ADA, "ada#1", "ha", intake=intake(), now=NOON)

    tell(story)
