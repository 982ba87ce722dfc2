"""The admins' language by itself."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilsupport.commands import (
    VERBS,
    About,
    Answer,
    Command,
    Verb,
    fits_the_shell,
    help_text,
    nearest,
    parse,
    parse_in_room,
    parse_in_staff_room,
    says_away,
    shell_help,
    tag,
    takes_alias,
)
from veilsupport.errors import AdminError

ALIASES = st.from_regex(r"[a-z]{2,16}-[0-9]{1,4}", fullmatch=True)
TEXTS = st.text(max_size=200)
WORDS = st.text(string.ascii_letters + " ,.?'\n[]>@!-0123456789", max_size=200)
PLAIN = st.text(string.ascii_letters + "0123456789äß ,.?", min_size=1).filter(lambda text: text.strip() == text != "")


def quote(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.split("\n"))


@given(ALIASES, TEXTS | WORDS, PLAIN)
def test_quoting_what_we_sent_brings_the_alias_back(alias: str, body: str, answer: str) -> None:
    body = body.replace("\r", "\n")  # as the desk has cleaned it
    assert parse(f"{quote(tag(alias, body))}\n\n{answer}") == Answer(answer, alias)


@given(ALIASES, ALIASES, ALIASES, PLAIN)
def test_visitor_cannot_forge_a_tag(alias: str, other: str, third: str, answer: str) -> None:
    sent = tag(alias, f"[{other}] hello\n[{third}] hello\n> [{other}] hello")
    for part in sent.split("\n"):
        found = parse(f"> {part}\n{answer}")
        assert isinstance(found, Answer)
        assert found.alias in (alias, None)


@given(TEXTS | WORDS)
def test_anything_is_understood_or_answered(text: str) -> None:
    for understood in (parse, lambda line: parse_in_room(line, "heron-42"), parse_in_staff_room):
        try:
            found = understood(text)
        except AdminError:
            continue
        assert isinstance(found, Answer | Command | None)


@given(st.sampled_from(VERBS), ALIASES, PLAIN)
def test_a_command_as_it_is_written_is_understood_as_it_was_meant(verb: Verb, alias: str, words: str) -> None:
    about = alias if verb.about is not About.NONE else None
    meant = Command(verb.name, about, words if verb.words else "")
    line = " ".join(filter(None, (f"!{verb.name}", about, meant.words)))
    inside = f"!{verb.name} {meant.words}"
    assert parse(line) == parse_in_staff_room(line) == parse_in_room(line, alias) == meant
    assert parse_in_room(inside, alias) == parse(f"@{alias} {inside}") == parse(f"> [{alias}] hello\n{inside}") == meant


@given(ALIASES, TEXTS | WORDS)
def test_in_a_room_every_line_is_for_its_visitor_or_refused(alias: str, text: str) -> None:
    try:
        found = parse_in_room(text, alias)
    except AdminError:
        return
    if isinstance(found, Answer) or found.alias is not None:
        assert found.alias == alias


@given(ALIASES, PLAIN)
def test_in_a_room_an_answer_is_passed_on_word_for_word(alias: str, body: str) -> None:
    for text in (body, f"{body}\n!close", f"> {body}\n\n{body}", f"/me {body}", f"{body} @otter-7 and [otter-7]"):
        assert parse_in_room(text, alias) == Answer(text, alias)
    assert parse_in_room(f"!! {body}", alias) == Answer(f"! {body}", alias)


@given(ALIASES, PLAIN)
def test_address_in_front_is_taken_off(alias: str, body: str) -> None:
    for line in (f"@{alias} {body}", f"@{alias}: {body}", f"@{alias.upper()},\n{body}", f"[{alias}] {body}"):
        assert parse(line) == Answer(body, alias)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("we are coming", Answer("we are coming")),
        ("", Answer("")),
        ("@heron-42", Answer("", "heron-42")),
        ("> [heron-42] hello", Answer("", "heron-42")),
        ("/me waves", Answer("/me waves")),
        ("!! beware", Answer("! beware")),
        ("@heron-42 !! beware", Answer("! beware", "heron-42")),
        ("> someone else's words\nindeed", Answer("> someone else's words\nindeed")),
        (">[heron-42] hello\nyes", Answer("yes", "heron-42")),
        ("> > [heron-42] hello\nyes", Answer("yes", "heron-42")),
        ("> [heron-42] hello\n> more\n\nyes\nand more", Answer("yes\nand more", "heron-42")),
        ("> [heron-42] hello\n@heron-42 yes", Answer("yes", "heron-42")),
        ("@heron-42's turn", Answer("'s turn", "heron-42")),
        ("write to me@heron-42.example", Answer("write to me@heron-42.example")),
        ("!list", Command("list")),
        ("! list", Command("list")),
        ("!CLOSE @Heron-42", Command("close", "heron-42")),
        ("!close", Command("close")),
        ("> [heron-42] hello\n!close", Command("close", "heron-42")),
        ("> [heron-42] hello\n!list", Command("list")),
        ("@heron-42 !burn", Command("burn", "heron-42")),
        ("!note heron-42 he wrote before", Command("note", "heron-42", "he wrote before")),
        ("!note heron-42\ntwo lines\nof it ", Command("note", "heron-42", "two lines\nof it")),
        ("> [heron-42] hello\n!note he wrote before", Command("note", "heron-42", "he wrote before")),
        ("!note he wrote before", Command("note", None, "he wrote before")),
        ("!say @heron-42 !now", Command("say", "heron-42", "!now")),
        ("!assign heron-42 Bert", Command("assign", "heron-42", "Bert")),
        ("!away back at five", Command("away", None, "back at five")),
        ("!away", Command("away")),
        ("!canned", Command("canned")),
        ("!canned heron-42 use hello", Command("canned", "heron-42", "use hello")),
        ("!canned add hello we are here", Command("canned", None, "add hello we are here")),
        ("!hours mon-fri 9-17", Command("hours", None, "mon-fri 9-17")),
        ("!trust Bert 1234", Command("trust", None, "Bert 1234")),
        ("!show heron-42", Command("show", "heron-42")),
    ],
)
def test_lines(text: str, expected: Answer | Command) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("!clsoe heron-42", "Did you mean !close?"),
        ("!", "no such command"),
        ("!close heron-42 now", "one word too many"),
        ("!close heron", "not the name"),
        ("!note @heron he wrote", "not the name"),
        ("!note heron-42", "Something is missing.* !note heron-42 TEXT"),
        ("!say", "Something is missing"),
        ("!assign heron-42", "Something is missing"),
        ("!trust", "Something is missing"),
        ("!who is there", "one word too many"),
        ("!list heron-42", "one word too many"),
        ("> [heron-42] hello\n> [otter-7] hello\nyes", "two conversations"),
        ("> [heron-42] hello\nyes\n> [otter-7] hello\nno", "two conversations"),
        ("@heron-42 > what they wrote\n> [otter-7] secret", "two conversations"),
        ("@heron-42 @otter-7 both of you", "two conversations"),
        ("> [heron-42] hello\n@otter-7 yes", "two conversations"),
        ("> [heron-42] hello\n!close otter-7", "another conversation"),
        ("@heron-42 !note otter-7 wrote before", "another conversation"),
        ("!note heron-42 as said\n> [otter-7] hello\n> [heron-42] hello", "two conversations"),
        ("@heron yes", "names no conversation"),
        ("@heron42 yes", "names no conversation"),
        ("@heron-42x yes", "names no conversation"),
        ("@heron-42-7 yes", "names no conversation"),
    ],
)
def test_what_cannot_be_meant_is_asked_about(text: str, word: str) -> None:
    with pytest.raises(AdminError, match=word.replace("?", r"\?")):
        parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("we are coming", Answer("we are coming", "heron-42")),
        (" \n", Answer("", "heron-42")),
        ("> his words\nindeed", Answer("> his words\nindeed", "heron-42")),
        ("> [heron-42] his words\nindeed", Answer("> [heron-42] his words\nindeed", "heron-42")),
        ("!!", Answer("!", "heron-42")),
        ("!!! beware", Answer("!! beware", "heron-42")),
        ("look: !close", Answer("look: !close", "heron-42")),
        ("otter-7 is not named so", Answer("otter-7 is not named so", "heron-42")),
        ("@everyone look", Answer("@everyone look", "heron-42")),
        ("@heron-42 hello", Answer("hello", "heron-42")),  # what a tap on the nick puts in front
        ("heron-42: hello", Answer("hello", "heron-42")),
        ("Heron-42, !close", Command("close", "heron-42")),
        ("heron-42 is gone", Answer("heron-42 is gone", "heron-42")),
        ("!close", Command("close", "heron-42")),
        ("!CLOSE heron-42", Command("close", "heron-42")),
        ("!note wrote before", Command("note", "heron-42", "wrote before")),
        ("!list", Command("list")),
        ("!hello", "no such command; nothing was sent"),
        ("!close otter-7", "names another conversation"),
        ("!say @otter-7 hello", "names another conversation"),
        ("@otter-7 hello", "names another conversation, so it went to nobody"),
        ("[otter-7] hello", "names another conversation, so it went to nobody"),
        ("> [otter-7] a secret\nhello", "names another conversation, so it went to nobody"),
        ("hello\n@OTTER-7 and you", "names another conversation, so it went to nobody"),
        ("@heron-42 @otter-7 both of you", "names another conversation, so it went to nobody"),
        ("!note as said:\n> [otter-7] a secret", "names another conversation, so it went to nobody"),
    ],
)
def test_lines_in_the_room_of_heron_42(text: str, expected: Answer | Command | str) -> None:
    if not isinstance(expected, str):
        assert parse_in_room(text, "heron-42") == expected
        return
    with pytest.raises(AdminError, match=expected):
        parse_in_room(text, "heron-42")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("good morning", None),
        ("", None),
        ("!!!", None),
        ("@heron-42 what do we tell them?", None),
        ("> heron-42 has waited 3 min\nyours?", None),
        ("!claim heron-42", Command("claim", "heron-42")),
        ("> heron-42 has waited 3 min\n!claim heron-42", Command("claim", "heron-42")),
        ("!claim", Command("claim")),
    ],
)
def test_lines_in_the_staff_room(text: str, expected: Command | None) -> None:
    assert parse_in_staff_room(text) == expected


# ---- what stands in front of a command -------------------------------------------------------------------------------

UNSEEN = st.text(
    "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u202e\u2066\u00ad\u061c\u3164\u034f\ufe0f\u2028\x07 \t\r\n", max_size=4
)
QUOTED_LINE = st.text(string.ascii_letters + " ,.?'>!", max_size=30).map(lambda text: f"> {text}")
QUOTATIONS = st.lists(QUOTED_LINE | UNSEEN, max_size=4).map("\n".join)


@given(
    QUOTATIONS,
    UNSEEN,
    st.sampled_from(["", "@heron-42 ", "heron-42: "]),
    st.sampled_from("!！﹗︕"),
    (TEXTS | WORDS | st.sampled_from(["note he may be an informant", "close"])).filter(
        lambda text: not text.startswith(("!", "！", "﹗", "︕"))
    ),
)
def test_nothing_that_begins_with_an_exclamation_mark_is_an_answer(
    quotation: str, unseen: str, name: str, mark: str, rest: str
) -> None:
    """Whatever stands unseen before it, and behind whatever quotation or name."""
    text = f"{quotation}\n{unseen}{name}{unseen}{mark}{rest}"
    for understood in (parse, lambda line: parse_in_room(line, "heron-42"), parse_in_staff_room):
        if name.endswith(": ") and understood is parse:
            continue  # in the chat that is no way to name anyone
        try:
            found = understood(text)
        except AdminError:
            continue
        assert not isinstance(found, Answer)


@pytest.mark.parametrize(
    "text",
    [
        "> are you a cop?\n!note he wrote before",
        "> are you a cop?\n> really?\n\n> or not\n \n !note he wrote before",
        ">\n\u200f!note he wrote before",
        "\ufeff> are you a cop?\r\n！note he wrote before",
        "\u200b\u2060!note he wrote before",
        "\n\u200d !note he wrote before",
        "> are you a cop?\u2028!note he wrote before",
    ],
)
def test_a_command_behind_a_quotation_or_what_cannot_be_seen_is_one(text: str) -> None:
    assert parse(text) == parse_in_staff_room(text) == Command("note", None, "he wrote before")
    assert parse_in_room(text, "heron-42") == Command("note", "heron-42", "he wrote before")


def test_a_name_between_the_quotation_and_the_command_says_what_it_is_about() -> None:
    for text in ("> hm?\n@heron-42 !note x", "> hm?\n@heron-42\n> hm?\n!note x", "[heron-42] > hm?\n!note x"):
        assert parse(text) == Command("note", "heron-42", "x")
    for text in ("> hm?\n@heron-42 !note x", "> hm?\nheron-42: !note x", "heron-42, > hm?\n!note x"):
        assert parse_in_room(text, "heron-42") == Command("note", "heron-42", "x")
    with pytest.raises(AdminError, match="two conversations"):
        parse("> [otter-7] hm?\n@heron-42 !note x")


def test_a_literal_behind_a_quotation_is_an_answer_with_it() -> None:
    assert parse("> x\n!!literal") == Answer("> x\n!literal")
    assert parse_in_room("> x\n!!literal", "heron-42") == Answer("> x\n!literal", "heron-42")
    assert parse_in_staff_room("> x\n!!literal") is None
    assert parse("> [heron-42] x\n!!literal") == Answer("!literal", "heron-42")
    assert parse("！！ beware") == Answer("！ beware")


def test_an_unseen_character_hides_no_name() -> None:
    with pytest.raises(AdminError, match="names another conversation"):
        parse_in_room("\u200f@otter-7 hello", "heron-42")
    assert parse("\u200f@heron-42 hello") == Answer("hello", "heron-42")


@pytest.mark.parametrize("text", ["!away", "! away", "> x\n！AWAY soon", "\u200f!away", "@heron-42 !away"])
def test_who_says_that_they_go_away_is_not_taken_to_be_back(text: str) -> None:
    assert says_away(text)
    assert parse(text) in (Command("away"), Command("away", None, "soon"))


@pytest.mark.parametrize("text", ["", "away", "!!away", "!awayx", "> !away", "!list"])
def test_anything_else_says_that_they_are_there(text: str) -> None:
    assert not says_away(text)


def test_mistyped_command_in_the_staff_room_is_answered() -> None:
    with pytest.raises(AdminError, match="Did you mean !claim"):
        parse_in_staff_room("!clam heron-42")


def test_help_names_every_command_and_nothing_begins_with_a_slash() -> None:
    for verb in VERBS:
        for help_ in (help_text(), help_text(room=True)):
            assert f"!{verb.name}" in help_
        assert (f"\n{verb.name}" in f"\n{shell_help()}") == verb.from_shell == fits_the_shell(Command(verb.name))
        assert takes_alias(verb.name) == (verb.about is not About.NONE)
    assert not any(line.startswith("/") for line in help_text().split("\n"))
    assert "!close heron-42:" in help_text()
    assert "!close:" in help_text(room=True)


def test_words_for_visitors_do_not_fit_the_shell() -> None:
    assert fits_the_shell(Command("canned", "heron-42", "use hello"))
    assert not fits_the_shell(Command("canned", None, "ADD hello we are here"))
    assert "add NAME TEXT" not in shell_help()
    assert "canned [list | use NAME | remove NAME]:" in shell_help()


def test_help_fits_a_phone() -> None:
    for help_ in (help_text(), help_text(room=True)):
        assert len(help_) < 1400
        assert all(len(line) <= 120 for line in help_.split("\n"))


def test_nearest() -> None:
    assert nearest("hern-42", ["otter-7", "heron-42"]) == ["heron-42"]
