"""The puzzle: in words, good once and for half an hour, asked at every door, and the text is kept."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser import ONION, Browser, Served, bodies, site_of, tell
from tests.desks import NOON
from tests.program import EMAIL, HOST, PASSWORD, SHOP, SITES, Program
from tests.program import tell as tell_program
from veilsupport.breaker import OUTBOX_MAX, OUTBOX_STARTS_MAX, Breaker, Cause
from veilsupport.desk import Desk
from veilsupport.limits import Act, By, Limits, Row
from veilsupport.web.puzzle import _NUMBERS, _ORDINALS, PuzzleError, Puzzles

KEY = b"k" * 32


def solve(question: str) -> str:
    """As a person does."""
    if found := re.search(r"What is (\w+) (plus|minus) (\w+)\?", question):
        one, two = _NUMBERS.index(found[1]), _NUMBERS.index(found[3])
        return str(one + two if found[2] == "plus" else one - two)
    if found := re.search(r"What is the (\w+) of these words: (.*)\?", question):
        return found[2].split(", ")[_ORDINALS.index(found[1])]
    found = re.search(r"Which is the largest of these numbers: (.*)\?", question)
    assert found, question
    return max(found[1].split(", "), key=_NUMBERS.index)


def asked(page: str) -> str:
    found = re.search(r'<label for="answer">(.*?)</label>', page)
    assert found, page
    return html.unescape(found[1])


def pressed_site(desk: Desk, breaker: Breaker | None = None, **more: Any) -> Served:
    breaker = breaker or Breaker()
    breaker.cause = Cause.STARTS
    return site_of(desk, breaker=breaker, **more)


# ---- the puzzles themselves ------------------------------------------------------------------------------------


def test_each_kind_of_question_is_asked_and_its_answer_is_right_in_words_or_digits() -> None:
    puzzles = Puzzles(KEY)
    kinds = set()
    for _ in range(300):
        puzzle = puzzles.issue(now=NOON)
        kinds.add(next((word for word in ("plus", "minus", "words", "largest") if word in puzzle.question), ""))
        answer = solve(puzzle.question)
        puzzles.check(puzzle.id, f" {answer.upper()}. ", now=NOON)
        if answer.isdigit():
            puzzles.check(puzzle.id, _NUMBERS[int(answer)], now=NOON)
            puzzles.check(puzzle.id, answer.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")), now=NOON)
    assert {"plus", "minus", "words", "largest"} <= kinds


@pytest.mark.parametrize("answer", ["", "no", "-1", "x" * 101, "\0", "²"])
def test_a_wrong_answer_gives_another_question(answer: str) -> None:
    puzzles = Puzzles(KEY)
    puzzle = puzzles.issue(now=NOON)
    with pytest.raises(PuzzleError) as refused:
        puzzles.check(puzzle.id, answer, now=NOON)
    assert refused.value.puzzle.id != puzzle.id
    assert refused.value.puzzle.answer == ""


def test_it_is_good_for_half_an_hour() -> None:
    puzzles = Puzzles(KEY)
    puzzle = puzzles.issue(now=NOON)
    answer = solve(puzzle.question)
    puzzles.check(puzzle.id, answer, now=NOON + 1800)
    for wrong in (NOON + 1861, NOON - 600):
        with pytest.raises(PuzzleError):
            puzzles.check(puzzle.id, answer, now=wrong)


def test_it_is_good_for_one_form_once_and_for_that_form_again() -> None:
    puzzles = Puzzles(KEY)
    puzzle = puzzles.issue(now=NOON)
    answer = solve(puzzle.question)
    puzzles.use(puzzle.id, form=b"mine")
    puzzles.check(puzzle.id, answer, form=b"mine", now=NOON)  # a double click
    for form in (b"", b"another"):
        with pytest.raises(PuzzleError):
            puzzles.check(puzzle.id, answer, form=form, now=NOON)
    puzzles.use(puzzle.id)
    with pytest.raises(PuzzleError):
        puzzles.check(puzzle.id, answer, now=NOON)


def test_nobody_makes_puzzles_of_their_own() -> None:
    ours, theirs = Puzzles(KEY), Puzzles(b"t" * 32)
    puzzle = theirs.issue(now=NOON)
    for id in (puzzle.id, puzzle.id[:-4], "", "!", "A" * 48, "é" * 48):
        with pytest.raises(PuzzleError):
            ours.check(id, solve(puzzle.question), now=NOON)


def test_those_that_were_used_fill_bounded_memory() -> None:
    puzzles = Puzzles(KEY)
    for number in range(20_000):
        puzzles.use(str(number))
    assert len(puzzles) == 8192


# ---- at the doors ------------------------------------------------------------------------------------------------


def test_under_pressure_the_form_asks_at_once_and_a_solved_puzzle_lets_in(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        browser = Browser(pressed_site(desk).site)
        page = await browser.get("/")
        answer = solve(asked(page.text))
        kept = await browser.post("/", {**page.hidden(), "message": "help", "answer": answer})
        assert (kept.status, kept.place) == (303, "/chat")
        assert bodies((await browser.get("/chat/latest")).text) == ["help"]

    tell(tmp_path, story)


def test_without_an_answer_or_with_a_wrong_one_nothing_starts_and_the_text_is_kept(tmp_path: Path) -> None:
    async def story(_: Browser, desk: Desk, served: Served) -> None:
        calm = Browser(served.site)
        before = await calm.get("/")  # opened before the rush
        assert '<label for="answer">' not in before.text
        browser = Browser(pressed_site(desk).site)
        refused = await browser.post("/", {**before.hidden(), "message": "two\nlines"})
        assert refused.status == 403
        assert "two\nlines</textarea>" in refused.text
        wrong = await browser.post("/", {**refused.hidden(), "message": "two\nlines", "answer": "wrong"})
        assert wrong.status == 403
        assert "That was not the answer" in wrong.text
        assert "two\nlines</textarea>" in wrong.text
        assert asked(wrong.text) != ""
        assert desk.open_aliases() == []
        right = {**wrong.hidden(), "message": "two\nlines", "answer": solve(asked(wrong.text))}
        assert (await browser.post("/", right)).status == 303
        again = Browser(browser.app)
        assert (await again.post("/", right)).status == 303  # a double click: the same conversation
        assert len(desk.open_aliases()) == 1

    tell(tmp_path, story)


def test_one_solved_puzzle_starts_one_conversation(tmp_path: Path) -> None:
    async def story(_: Browser, desk: Desk, __: Served) -> None:
        site = pressed_site(desk).site
        page = await Browser(site).get("/")
        solved = {"puzzle": page.hidden()["puzzle"], "answer": solve(asked(page.text)), "message": "me"}
        assert (await Browser(site).post("/", {**page.hidden(), **solved})).status == 303
        for _number in range(3):
            other = await Browser(site).get("/")
            assert (await Browser(site).post("/", {**other.hidden(), **solved})).status == 403
        assert len(desk.open_aliases()) == 1

    tell(tmp_path, story)


def test_a_solved_puzzle_is_kept_in_the_form_when_something_else_refuses(tmp_path: Path) -> None:
    async def story(_: Browser, desk: Desk, __: Served) -> None:
        served = pressed_site(desk)
        for _number in range(5):  # all that a circuit may start
            page = await Browser(served.site).get("/")
            fields = {**page.hidden(), "message": "me", "answer": solve(asked(page.text))}
            assert (await Browser(served.site).post("/", fields)).status == 303
        page = await Browser(served.site).get("/")
        fields = {**page.hidden(), "message": "me", "answer": solve(asked(page.text))}
        refused = await Browser(served.site).post("/", fields)
        assert refused.status == 429
        assert refused.hidden()["puzzle"] == fields["puzzle"]
        assert f'name="answer" value="{fields["answer"]}"' in refused.text
        served.clock.now += 60
        again = {**refused.hidden(), "message": "me", "answer": fields["answer"]}
        assert (await Browser(served.site).post("/", again)).status == 303

    tell(tmp_path, story)


def test_a_flood_of_those_who_do_not_answer_does_not_hold_up_who_does(tmp_path: Path) -> None:
    async def story(_: Browser, desk: Desk, __: Served) -> None:
        served = pressed_site(desk)
        page = await Browser(served.site).get("/")
        for number in range(520):
            flooder = Program(served.site, circuit=(f"circ-{number:08x}", 80), host=ONION)
            reply = await flooder.post("/auth/anonymous")
            assert reply.code == ("puzzle" if number < 500 else "too_fast")
        fields = {**page.hidden(), "message": "me", "answer": solve(asked(page.text))}
        assert (await Browser(served.site).post("/", fields)).status == 303

    tell(tmp_path, story)


def test_a_conversation_that_exists_goes_on_without_a_puzzle(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("first")
        browser.app = pressed_site(desk).site
        assert (await browser.say("second")).status == 303
        page = await browser.get("/chat/compose")
        assert 'name="answer"' not in page.text
        async with browser.stream() as stream:
            await stream.until("second")

    tell(tmp_path, story)


def test_another_pages_form_leads_to_ours_which_asks(tmp_path: Path) -> None:
    async def story(_: Browser, desk: Desk, __: Served) -> None:
        browser = Browser(pressed_site(desk, sites=SITES).site)
        answer = await browser.post("/s/shop/start", {"message": "from the shop"}, origin=SHOP.origins[0])
        assert answer.status == 200
        assert "nothing has been sent yet" in answer.text
        assert "from the shop</textarea>" in answer.text
        solved = {**answer.hidden(), "message": "from the shop", "answer": solve(asked(answer.text))}
        assert (await browser.post("/s/shop", solved)).status == 303

    tell(tmp_path, story)


def test_the_frame_on_another_page_asks_too(tmp_path: Path) -> None:
    async def story(_: Browser, desk: Desk, __: Served) -> None:
        browser = Browser(pressed_site(desk, sites=SITES).site)
        page = await browser.get("/embed/shop")
        refused = await browser.post("/embed/shop", {**page.hidden(), "message": "hi", "answer": "no"})
        assert refused.status == 403
        assert "hi</textarea>" in refused.text
        solved = {**refused.hidden(), "message": "hi", "answer": solve(asked(refused.text))}
        async with browser.stream("/embed/shop", fields=solved) as stream:
            await stream.until("hi")
        assert len(desk.open_aliases()) == 1

    tell(tmp_path, story)


def test_programs_are_asked_and_answer(tmp_path: Path) -> None:
    async def story(_: Program, desk: Desk, __: Served) -> None:
        site = pressed_site(desk, sites=SITES).site
        for path, body in (
            ("/auth/anonymous", {}),
            ("/auth/register", {"email": EMAIL, "password": PASSWORD}),
        ):
            program = Program(site)
            refused = await program.post(path, body or None)
            assert (refused.status, refused.code) == (403, "puzzle")
            puzzle = refused.json["puzzle"]
            wrong = await program.post(path, {**body, "puzzle": {"id": puzzle["id"], "answer": "wrong"}})
            assert (wrong.status, wrong.json["puzzle"]["id"] != puzzle["id"]) == (403, True)
            puzzle = wrong.json["puzzle"]
            solved = {**body, "puzzle": {"id": puzzle["id"], "answer": solve(puzzle["question"])}}
            assert (await program.post(path, solved)).status == 201
            assert (await program.post(path, solved)).status == 403

    tell_program(tmp_path, story, sites=SITES)


def test_an_account_that_many_guess_at_asks_for_a_puzzle_and_lets_its_owner_in(tmp_path: Path) -> None:
    async def story(owner: Program, desk: Desk, served: Served) -> None:
        for email in (EMAIL, "nobody@mail.example"):
            if email == EMAIL:
                assert (await owner.post("/auth/register", {"email": email, "password": PASSWORD})).status == 201
            statuses = []
            for number in range(12):
                guesser = Program(served.site, circuit=(f"circ-{number:08x}", 80), host=ONION)
                guess = await guesser.post("/auth/login", {"email": email, "password": "guessed it"})
                statuses.append((guess.status, guess.code))
            assert statuses == [(401, "wrong_password")] * 10 + [(403, "puzzle")] * 2
        mine = Program(served.site, circuit=("circ-00001000", 80), host=ONION)
        refused = await mine.post("/auth/login", {"email": EMAIL, "password": PASSWORD})
        assert refused.code == "puzzle"
        puzzle = refused.json["puzzle"]
        solved = {"id": puzzle["id"], "answer": solve(puzzle["question"])}
        signed = await mine.post("/auth/login", {"email": EMAIL, "password": PASSWORD, "puzzle": solved})
        assert signed.status == 200
        browser = Browser(served.site, circuit=("circ-00001001", 80))
        page = await browser.send_form("/account", email=EMAIL, password=PASSWORD)
        assert page.status == 403
        answer = solve(asked(page.text))
        entered = await browser.post(
            "/account", {**page.hidden(), "email": EMAIL, "password": PASSWORD, "answer": answer, "enter": "1"}
        )
        assert entered.status == 303

    tell_program(tmp_path, story)


# ---- too much of everything ---------------------------------------------------------------------------------------


def test_a_full_outbox_refuses_starts_first_and_says_so_plainly(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        await browser.start("first")
        breaker = Breaker()
        served = site_of(desk, breaker=breaker)
        breaker.waiting(OUTBOX_STARTS_MAX)
        refused = await Browser(served.site).send_form("/", message="hello")
        assert refused.status == 503
        assert "Too much waits to be handed over" in refused.text
        assert "hello</textarea>" in refused.text
        assert "Please try again in 5 minutes." in refused.text
        assert refused.header("retry-after") == "300"
        browser.app = served.site
        assert (await browser.say("still goes")).status == 303
        breaker.waiting(OUTBOX_MAX)
        refused = await browser.say("not any more")
        assert refused.status == 503
        assert 'value="not any more"' in refused.text
        program = Program(served.site, host=HOST)
        answer = await program.post("/auth/anonymous")
        assert (answer.status, answer.code, answer.json["retry_after"]) == (503, "full", 300)

    tell(tmp_path, story)


def test_a_circuit_that_is_refused_without_end_is_closed_and_others_are_not(tmp_path: Path) -> None:
    closed: list[int] = []

    async def story(_: Browser, desk: Desk, __: Served) -> None:
        served = site_of(desk, on_flood=closed.append)
        honest = Browser(served.site, circuit=("circ-0000002a", 80))
        flooder = Browser(served.site, circuit=("circ-000100ff", 80))
        for _number in range(160):
            await flooder.get("/nowhere")
        assert set(closed) == {0x100FF}
        for _number in range(100):
            await honest.get("/nowhere")
        assert set(closed) == {0x100FF}
        flooder.circuit = None
        for _number in range(200):
            await Browser(served.site, circuit=None, host=HOST).get("/nowhere")  # loopback has none

    tell(tmp_path, story)


def test_pages_are_limited_generously_and_say_when_to_come_back(tmp_path: Path) -> None:
    async def story(_: Browser, desk: Desk, __: Served) -> None:
        served = site_of(desk)
        browser = Browser(served.site, circuit=("circ-0000002a", 80))
        statuses = [(await browser.get("/")).status for _ in range(61)]
        assert statuses == [200] * 60 + [429]
        answer = await browser.get("/")
        assert "Please try again in 1 second." in answer.text
        assert (await Browser(served.site).get("/")).status == 200
        served.clock.now += 1
        assert (await browser.get("/")).status == 200

    tell(tmp_path, story)


def test_a_page_that_is_refused_does_not_deny_what_was_sent_before(tmp_path: Path) -> None:
    async def story(browser: Browser, desk: Desk, _: Served) -> None:
        limits = Limits((Row(Act.PAGE, By.SESSION, 1, 1, ""), Row(Act.STREAM, By.SESSION, 1, 0, "")))
        served = site_of(desk, limits=limits, sites=SITES)
        browser = Browser(served.site)
        await browser.start("hello")
        shown, refused = await browser.get("/chat"), await browser.get("/chat")
        assert (shown.status, refused.status) == (200, 429)
        assert "Nothing was sent" not in refused.text
        framed = await Browser(served.site).send_form("/embed/shop", message="from the frame")
        assert bodies(framed.text) == ["from the frame"]
        assert "Nothing was sent" not in framed.text
        assert "too fast" not in framed.text.lower()

    tell(tmp_path, story)


@pytest.mark.parametrize("path", ["/chat/latest", "/chat/compose", "/embed/shop"])
def test_a_frame_that_is_refused_can_be_shown_and_comes_again_by_itself(tmp_path: Path, path: str) -> None:
    async def story(_: Browser, desk: Desk, __: Served) -> None:
        limits = Limits((Row(Act.PAGE, By.SESSION, 1 / 9, 1, ""), Row(Act.LOOK, By.CIRCUIT, 1 / 9, 2, "")))
        browser = Browser(site_of(desk, limits=limits, sites=SITES).site)
        await browser.start("hello")
        shown, refused = await browser.get(path), await browser.get(path)
        assert (shown.status, refused.status, refused.header("retry-after")) == (200, 429, "9")
        assert f'content="10;url={path}"' in refused.text
        who = [re.findall("frame-ancestors [^;]*", each.header("content-security-policy")) for each in (shown, refused)]
        assert who[0] == who[1] != ["frame-ancestors 'none'"]

    tell(tmp_path, story)


def test_a_double_click_is_not_refused_for_what_the_first_has_taken(tmp_path: Path) -> None:
    async def story(_: Browser, desk: Desk, __: Served) -> None:
        browser = Browser(site_of(desk, limits=Limits((Row(Act.START, By.OVERALL, 1, 1, ""),))).site)
        form = {**(await browser.get("/")).hidden(), "message": "hello"}
        first = await browser.post("/", form)
        browser.cookie = ""  # the browser dropped that answer
        again = await browser.post("/", form)
        assert (first.status, again.status) == (303, 303)
        assert len(desk.open_aliases()) == 1
        assert (await Browser(browser.app).send_form("/", message="hello")).status == 429

    tell(tmp_path, story)


def test_strangers_doings_fill_bounded_memory(tmp_path: Path) -> None:
    async def story(_: Browser, desk: Desk, __: Served) -> None:
        served = site_of(desk)
        for number in range(3000):
            served.clock.now += 0.01
            browser = Browser(served.site, circuit=(f"circ-{number:08x}", 80))
            await browser.get("/")
            await browser.get("/nowhere")
        assert served.site.remembered < 5000

    tell(tmp_path, story)
