"""config by itself: what is right comes back, and everything that is wrong is named at once."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilsupport import config, rules
from veilsupport.config import Config
from veilsupport.errors import SetupError, SetupErrors

WHOLE = """
[desk]
name = "Night line"
greeting = "Hello."
hours = "mon-fri 9-17:30, sat 10-12 Europe/Berlin"
away = "Back soon."
typing = false

[xmpp]
jid = "Desk@Chat.example"
host = "chatxyz.onion"
port = 5223
tls = "direct"
certificate = "any"
form = "direct"
archive = false
strict_devices = true

[[admin]]
jid = "ada@chat.example"
name = "Ada"
role = "answers"
roles = { shop = "leads", "" = "reads" }
omemo = "require"
notify_only = true

[[site]]
name = "shop"
title = "The Shop"
hours = "always"
typing = true

[tor]
executable = "/usr/bin/tor"
lines = ["UseBridges 1"]

[web]
port = 8081

[xmpp_onion]
port = 5222

[[xmpp_onion.client]]
name = "ada"
key = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBQ"
"""


ADMIN = '[[admin]]\njid = "a@b"\nname = "A"\n'
SHOP = '[[site]]\nname = "shop"\ntitle = "The Shop"\n'
CLIENT = f'[[xmpp_onion.client]]\nname = "ada"\nkey = "{"B" * 51}Q"\n'


def problems(text: str) -> list[str]:
    with pytest.raises(SetupError) as wrong:
        config.parse(text)
    found = wrong.value.problems if isinstance(wrong.value, SetupErrors) else (wrong.value,)
    assert all(each.hint for each in found)
    return [f"{each.message} {each.hint}" for each in found]


def test_a_whole_file_is_read() -> None:
    read = config.parse(WHOLE)
    assert read.xmpp is not None
    assert (read.xmpp.jid, read.xmpp.address, read.xmpp.port) == ("desk@chat.example", "chatxyz.onion", 5223)
    assert (read.admin[0].name, read.tor.lines, read.web.port) == ("Ada", ("UseBridges 1",), 8081)


def test_who_may_do_what_is_read_and_has_plain_defaults() -> None:
    ada = config.parse(WHOLE).admin[0]
    assert (ada.role, ada.roles) == ("answers", {"shop": "leads", "": "reads"})
    assert (ada.omemo, ada.notify_only) == ("require", True)
    someone = config.parse(ADMIN).admin[0]
    assert (someone.role, someone.roles, someone.omemo, someone.notify_only) == ("leads", {}, "prefer", False)


def test_roles_may_name_a_site_that_is_no_more() -> None:
    assert config.parse(f'{ADMIN}roles = {{ zebra = "none" }}\n{SHOP}').admin[0].roles == {"zebra": "none"}
    alike = f'{ADMIN}roles = {{ shop = "leads", shop-2 = "none" }}\n{SHOP}'  # no mistyped shop: that one is named too
    assert config.parse(alike).admin[0].roles == {"shop": "leads", "shop-2": "none"}
    assert "give that one a role there too" in "".join(problems(alike.replace('shop = "leads", ', "")))


def test_no_file_means_all_defaults(tmp_path: Path) -> None:
    assert config.load(tmp_path) == Config()
    assert Config().xmpp is None


def test_host_is_the_domain_when_left_out() -> None:
    read = config.parse('[xmpp]\njid = "desk@chat.example"')
    assert read.xmpp is not None
    assert read.xmpp.address == "chat.example"


def test_a_component_is_dialled_on_this_machine_unless_said_otherwise(tmp_path: Path) -> None:
    read = config.parse('[xmpp]\nform = "component"\ncomponent = "Support.b.example"')
    assert read.xmpp is not None
    assert (read.xmpp.component, read.xmpp.address, read.xmpp.port) == ("support.b.example", "127.0.0.1", 5347)
    config.save(tmp_path, read)
    assert config.load(tmp_path) == read == config.check(read.model_dump())
    elsewhere = config.parse('[xmpp]\nform = "component"\ncomponent = "s.b"\nhost = "b.onion"\nport = 5348')
    assert elsewhere.xmpp is not None
    assert (elsewhere.xmpp.address, elsewhere.xmpp.port) == ("b.onion", 5348)


def test_everything_wrong_is_named_at_once_with_a_hint() -> None:
    found = problems('[xmpp]\njid = "nobody"\nprt = 1\nport = 70000\n[dsk]\n[[admin]]\njid = "a@b"\n[web]\nport = "80"')
    assert len(found) == 6
    text = "\n".join(found)
    for part in ("xmpp.jid", "Did you mean port?", "xmpp.port", "Did you mean desk?", "admin.1.name", "web.port"):
        assert part in text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[xmpp\n", "line 1"),
        ('[xmpp]\njid = "a@b.example"\ntls = "none"', "onion"),
        ('[xmpp]\njid = "a@b.example"\ncertificate = "any"', "onion"),
        ('[xmpp]\njid = "a@b.example"\ncertificate = "12:34"', "fingerprint"),
        ('[xmpp]\njid = "a@b.example"\n[[admin]]\njid = "A@b.example"\nname = "A"', "own account"),
        ('[[admin]]\njid = "a@b"\nname = "A"\n[[admin]]\njid = "c@d"\nname = "A"', "name of their own"),
        ('[tor]\nlines = ["a\\nb"]', "one torrc line"),
        ('[[admin]]\njid = "a@b/phone"\nname = "A"', "without a resource"),
        ('[desk]\nhours = "mo 9-17"', "The days are mon tue"),
        ('[desk]\nhours = "9-17 Europe/Berln"', "Did you mean Europe/Berlin?"),
        ('[[site]]\nname = "shop"\ntitle = "S"\nhours = "9"', "site.1.hours"),
        (f'[desk]\naway = "{"x" * 501}"', "at most 500"),
        (f'{ADMIN}role = "boss"', "'leads', 'answers', 'reads' or 'none'"),
        (f'{ADMIN}roles = {{ shop = "boss" }}\n{SHOP}', "admin.1.roles.shop"),
        (f'{ADMIN}roles = {{ shp = "reads" }}\n{SHOP}', "Did you mean shop?"),
        ('[[admin]]\njid = "a@b"\nname = "Ada"\n[[admin]]\njid = "c@d"\nname = "ada"', "name of their own"),
        (f'[xmpp_onion]\nport = 5222\n{CLIENT}kez = "x"', "Did you mean key?"),
        (f"[xmpp_onion]\nport = 5222\n{CLIENT}zebra = 1", "Known here: name, key."),
        (f"{ADMIN}zebra = 1", "Known here: jid, name, role"),
        ("[xmpp_onion]\nport = 5222\nprot = 1", "Did you mean port?"),
        ("[[sites]]", "Did you mean site?"),
        (f'{ADMIN}omemo = "on"', "'prefer', 'require' or 'off'"),
        ('[xmpp]\njid = "a@b.example"\nform = "room"', "'rooms', 'direct'"),
        ("[xmpp]", "own account"),
        ('[xmpp]\njid = "a@b.example"\ncomponent = "support.b.example"', "component goes with"),
        ('[xmpp]\nform = "component"', "the domain that is ours there"),
        ('[xmpp]\nform = "component"\ncomponent = "s.b.example"\njid = "a@b.example"', "no jid"),
        ('[xmpp]\nform = "component"\ncomponent = "s.b.example"\nhost = "b.example"', "not encrypted"),
        ('[xmpp]\nform = "component"\ncomponent = "a@b"', "xmpp.component"),
        (
            '[xmpp]\nform = "component"\ncomponent = "s.b"\n[[admin]]\njid = "a@b"\nname = "A"\nomemo = "require"',
            "has no keys",
        ),
        ("[xmpp_onion]", "xmpp_onion.port"),
        (f"[xmpp_onion]\nport = 5222\n{CLIENT}{CLIENT}", "name of its own"),
        (f"[xmpp_onion]\nport = 5222\n{CLIENT.replace('ada', '../ada')}", "1 to 32"),
        (CLIENT.replace("xmpp_", "") * 2, "name of its own"),
        (CLIENT.replace("xmpp_", "").replace("ada", "_ourselves"), "1 to 32"),
        (CLIENT.replace("xmpp_", "").replace("Q", "1"), "onion client add"),
        (f"[xmpp_onion]\nport = 5222\n{CLIENT.replace('Q', '1')}", "onion client add"),
        (f"[xmpp_onion]\nport = 5222\n{CLIENT.replace('Q', '')}", "onion client add"),
        (f"[xmpp_onion]\nport = 5222\n{CLIENT.replace('B', 'A').replace('Q', 'A')}", "onion client add"),
    ],
)
def test_each_mistake_has_its_words(text: str, part: str) -> None:
    assert part in "\n".join(problems(text))


def test_values_are_not_repeated() -> None:
    assert "hunter2" not in "\n".join(problems('[xmpp]\njid = "hunter2"\npassword = "hunter2"'))


def test_what_is_saved_is_read_again_and_is_ours_alone(tmp_path: Path) -> None:
    config.save(tmp_path, config.parse(WHOLE))
    assert config.load(tmp_path) == config.parse(WHOLE)
    assert stat.S_IMODE((tmp_path / config.FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [config.FILE_NAME]


@given(st.text())
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    try:
        config.parse(text)
    except SetupError as error:
        config_words = (error.message, error.hint)
        assert all(config_words)


def test_fingerprint_is_taken_in_any_usual_spelling() -> None:
    digits = "0123456789abcdef" * 4
    colons = ":".join(digits[i : i + 2] for i in range(0, 64, 2)).upper()
    assert (
        rules.certificate_rule(digits)
        == rules.certificate_rule(colons)
        == rules.certificate_rule(f"sha256:{digits}")
        == digits
    )
