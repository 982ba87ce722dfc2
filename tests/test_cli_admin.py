"""`veilsupport admin`, as its operator meets it; that a running desk takes it at once: live/test_private_desk.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import printed, refusal
from veilsupport import config
from veilsupport.config import FILE_NAME, AdminSettings


def told(data: Path, *words: str) -> str:
    return printed("admin", *words, "--data", str(data))


def wrong(data: Path, *words: str) -> str:
    return refusal("admin", *words, "--data", str(data))


def admins(data: Path) -> list[AdminSettings]:
    return list(config.load(data).admin)


def test_admin_is_added_with_the_desks_defaults_and_then_changed_in_what_is_given(tmp_path: Path) -> None:
    assert "Ada is added" in told(tmp_path, "add", "Ada@Home.example", "--name", "Ada")
    assert admins(tmp_path) == [AdminSettings(jid="ada@home.example", name="Ada")]
    assert "Ada is changed" in told(tmp_path, "add", "ada@home.example", "--role", "reads", "--notify-only")
    told(tmp_path, "add", "ada@home.example", "--omemo", "require")
    [ada] = admins(tmp_path)
    assert (ada.name, ada.role, ada.omemo, ada.notify_only) == ("Ada", "reads", "require", True)
    told(tmp_path, "add", "ada@home.example", "--with-words")
    assert not admins(tmp_path)[0].notify_only


def test_roles_name_sites_and_the_desks_own_page_and_are_taken_back(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('[[site]]\nname = "shop"\ntitle = "Shop"\n')
    told(tmp_path, "add", "ada@home.example", "--name", "Ada", "--roles", "shop=reads", "--roles", "=none")
    assert admins(tmp_path)[0].roles == {"shop": "reads", "": "none"}
    assert "shop: reads  own page: none" in told(tmp_path, "list")
    told(tmp_path, "add", "ada@home.example", "--roles", "")
    assert admins(tmp_path)[0].roles == {}


@pytest.mark.parametrize("who", ["ada@home.example", " ADA@home.example", "Ada", "ada"])
def test_admin_is_removed_by_account_or_name_and_the_others_stay(tmp_path: Path, who: str) -> None:
    for name in ("Ada", "Bob"):
        told(tmp_path, "add", f"{name}@home.example", "--name", name)
    assert "Nobody is left" not in told(tmp_path, "remove", who)
    assert [each.name for each in admins(tmp_path)] == ["Bob"]
    assert "Nobody is left" in told(tmp_path, "remove", "Bob")


def test_list_says_what_differs(tmp_path: Path) -> None:
    assert "no admins" in told(tmp_path, "list")
    told(tmp_path, "add", "ada@home.example", "--name", "Ada")
    told(tmp_path, "add", "bob@home.example", "--name", "Bob", "--omemo", "off", "--notify-only", "--role", "answers")
    assert told(tmp_path, "list").splitlines() == [
        "ada@home.example  Ada  leads",
        "bob@home.example  Bob  answers  omemo off  told only that there is a message",
    ]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("add", "carol@home.example"), "--name"),
        (("add", "carol", "--name", "Carol"), "name@server"),
        (("add", "carol@home.example", "--name", "ADA"), "name of their own"),
        (("add", "carol@home.example", "--name", "x" * 41), "1 to 40"),
        (("add", "desk@home.example", "--name", "Carol"), "own account cannot be an admin"),
        (("add", "ada@home.example", "--roles", "shop"), "shop=reads"),
        (("add", "ada@home.example", "--roles", "shop=owns"), "shop=reads"),
        (("add", "ada@home.example", "--roles", "shpo=reads"), "Did you mean shop?"),
        (("remove", "carol"), "admin list"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(tmp_path: Path, words: tuple[str, ...], hint: str) -> None:
    settings = '[xmpp]\njid = "desk@home.example"\n[[site]]\nname = "shop"\ntitle = "Shop"\n'
    (tmp_path / FILE_NAME).write_text(settings + '[[admin]]\njid = "ada@home.example"\nname = "Ada"\n')
    before = (tmp_path / FILE_NAME).read_text()
    assert hint in wrong(tmp_path, *words)
    assert (tmp_path / FILE_NAME).read_text() == before
