"""The admins' language by itself."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilsupport.commands import VERBS, Answer, Command, help_text, nearest, parse, tag, takes_alias
from veilsupport.errors import AdminError

ALIASES = st.from_regex(r"[a-z]{2,16}-[0-9]{1,4}", fullmatch=True)
TEXTS = st.text(max_size=200)
WORDS = st.text(string.ascii_letters + " ,.?'\n[]>@!-0123456789", max_size=200)
PLAIN = st.text(string.ascii_letters + "0123456789äß ,.?", min_size=1).filter(lambda text: text.strip() == text != "")


def quote(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.split("\n"))


@given(ALIASES, TEXTS | WORDS, PLAIN)
def test_quoting_what_we_sent_brings_the_alias_back(alias: str, body: str, answer: str) -> None:
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
    try:
        found = parse(text)
    except AdminError:
        return
    assert isinstance(found, Answer | Command)


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
        ("!list heron-42", "one word too many"),
        ("> [heron-42] hello\n> [otter-7] hello\nyes", "two conversations"),
        ("> [heron-42] hello\nyes\n> [otter-7] hello\nno", "two conversations"),
        ("@heron-42 > what they wrote\n> [otter-7] secret", "two conversations"),
        ("@heron-42 @otter-7 both of you", "two conversations"),
        ("> [heron-42] hello\n@otter-7 yes", "two conversations"),
        ("> [heron-42] hello\n!close otter-7", "two conversations"),
        ("@heron yes", "names no conversation"),
        ("@heron42 yes", "names no conversation"),
        ("@heron-42x yes", "names no conversation"),
        ("@heron-42-7 yes", "names no conversation"),
    ],
)
def test_what_cannot_be_meant_is_asked_about(text: str, word: str) -> None:
    with pytest.raises(AdminError, match=word.replace("?", r"\?")):
        parse(text)


def test_help_names_every_command_and_nothing_begins_with_a_slash() -> None:
    for verb in VERBS:
        assert f"!{verb.name}" in help_text()
        assert takes_alias(verb.name) == verb.takes_alias
    assert not any(line.startswith("/") for line in help_text().split("\n"))


def test_nearest() -> None:
    assert nearest("hern-42", ["otter-7", "heron-42"]) == ["heron-42"]
