"""Setup: from flags, environment and file, in that order; and by questions on a terminal, with nobody to dial."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.live.appliance import COMMAND, run_command
from tests.live.pseudoterminal import PseudoTerminal
from tests.ports import free_port
from veilsupport.cli.answers import Answers, applied, from_file, over
from veilsupport.config import FILE_NAME, Config
from veilsupport.errors import SetupErrors

PASSWORD = {"VEILSUPPORT_XMPP_PASSWORD": "desk-password"}


def settings(data: Path) -> dict[str, Any]:
    return tomllib.loads((data / FILE_NAME).read_text())


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def is_untouched(data: Path) -> bool:
    return not data.exists() or {path.name for path in data.iterdir()} <= {"lock", "tor"}


# ---- answers that are given ------------------------------------------------------------------------------------------


def test_flag_goes_before_environment_before_file_before_what_is_set(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "data")]
    assert run_command("setup", *data, "--name", "set", "--greeting", "set").returncode == 0
    file = written(tmp_path / "a.toml", 'jid = "file@x.example"\nhost = "file.example"\nname = "file"\nport = 1\n')
    env = {**PASSWORD, "VEILSUPPORT_SETUP_HOST": "env.example", "VEILSUPPORT_SETUP_PORT": "2"}
    env["VEILSUPPORT_SETUP_ADMIN"] = "ada@x.example=Ada Lovelace;bob@x.example=Bob"
    done = run_command("setup", *data, "--answers", str(file), "--port", "3", env=env)
    assert done.returncode == 0, done.stderr
    after = settings(tmp_path / "data")
    assert after["xmpp"] == {"jid": "file@x.example", "host": "env.example", "port": 3}
    assert after["desk"] == {"name": "file", "greeting": "set"}
    assert [each["name"] for each in after["admin"]] == ["Ada Lovelace", "Bob"]


def test_file_may_be_named_by_the_environment_and_names_its_secrets_by_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    written(tmp_path / "answers" / "word", "MARKpassword\n")
    written(tmp_path / "answers" / "phrase", "MARKphrase\n")
    file = written(
        tmp_path / "answers" / "a.toml",
        'jid = "desk@x.example"\npassword-file = "word"\nnew-passphrase-file = "phrase"\nadmin = ["ada@x.example"]\n',
    )
    data = tmp_path / "data"
    done = run_command("setup", "--data", str(data), env={"VEILSUPPORT_SETUP_ANSWERS": str(file)})
    assert done.returncode == 0, done.stderr
    for path in data.iterdir():
        assert b"MARK" not in path.read_bytes(), path
    refused = run_command("run", "--no-tor", "--data", str(data))
    assert "passphrase" in refused.stderr


def test_all_that_is_wrong_is_named_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    file = written(
        tmp_path / "a.toml",
        'jidd = "x"\npassword = "MARK"\nport = "5222"\nadmin = "ada"\nname = 7\nhost = "x.example"\njid = "nobody"\n',
    )
    done = run_command("setup", "--data", str(tmp_path / "data"), "--answers", str(file), env=PASSWORD)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 6
    assert "Did you mean jid?" in done.stderr
    assert "Write password-file instead" in done.stderr
    assert "port = 5222" in done.stderr
    assert 'admin = ["ada@chat.example=Ada"]' in done.stderr
    assert "MARK" not in done.stderr
    assert is_untouched(tmp_path / "data")


@pytest.mark.parametrize(("text", "words"), [(None, "cannot be read"), ("= 1", "not valid TOML"), ("\xff", "read")])
def test_file_that_is_none_is_said(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "a.toml"
    if text is not None:
        file.write_text(text, "latin-1")
    found, [problem] = from_file(file)
    assert (found, words in problem.message) == (Answers(), True)


def test_answers_of_the_first_go_before_those_of_the_second() -> None:
    second = Answers(jid="a@b", port=1, admin=("x@y",))
    assert over(Answers(port=2), second) == Answers(jid="a@b", port=2, admin=("x@y",))
    assert over(Answers(admin=("z@y",)), second).admin == ("z@y",)


def test_admin_who_is_named_again_keeps_what_setup_does_not_ask() -> None:
    before = applied(Config(), Answers(admin=("ada@x.example=Ada",)))
    [admin] = before.admin
    before = before.model_copy(update={"admin": (admin.model_copy(update={"role": "reads"}),)})
    after = applied(before, Answers(admin=("Ada@x.example=Ada L.", "bob@x.example")))
    assert [(each.name, each.role) for each in after.admin] == [("Ada L.", "reads"), ("Bob", "leads")]


def test_wrong_answer_is_no_settings() -> None:
    with pytest.raises(SetupErrors):
        applied(Config(), Answers(jid="desk@x.example", tls="none"))


def test_check_without_an_account_or_a_ring_without_a_check_is_refused(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "data")]
    for arguments, words in ((["--check"], "no account to check"), (["--ring"], "--ring goes with --check")):
        done = run_command("setup", *data, *arguments)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert is_untouched(tmp_path / "data")


def test_what_cannot_be_reached_is_not_saved_when_it_is_checked(tmp_path: Path) -> None:
    arguments = ["--jid", "desk@x.example", "--host", "127.0.0.1", "--port", str(free_port()), "--check"]
    done = run_command("setup", "--data", str(tmp_path / "data"), *arguments, env=PASSWORD)
    assert done.returncode == 2
    assert "did not get through" in done.stderr
    assert is_untouched(tmp_path / "data")


def test_help_names_the_variables() -> None:
    told = run_command("setup", "--help").stdout
    for name in ("JID", "PASSWORD_FILE", "HOST", "PORT", "TLS", "CERTIFICATE", "ADMIN", "NAME", "GREETING", "ANSWERS"):
        assert f"VEILSUPPORT_SETUP_{name}]" in " ".join(told.split()), name
    assert "VEILSUPPORT_XMPP_PASSWORD" in told


# ---- on a terminal ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", range(6))
def test_ctrl_c_at_any_question_changes_nothing_and_leaves_the_terminal_as_it_was(tmp_path: Path, typed: int) -> None:
    data = tmp_path / "data"
    answers = [
        ("Passphrase", "secret"),
        ("once more", "secret"),
        ("Account", "desk@x.example"),
        ("Its password", "pw"),
        ("Server to dial", "127.0.0.1"),
        ("Its port", ""),
    ]
    with PseudoTerminal("setup", "--data", str(data)) as screen:
        for question, line in answers[:typed]:
            screen.answers(question, line)
        screen.shows(answers[typed][0])
        screen.shows(r": \Z")
        assert screen.interrupts() == 130, screen.text
        assert screen.echoes
    assert is_untouched(data)


def test_what_is_typed_secretly_is_not_shown(tmp_path: Path) -> None:
    with PseudoTerminal("setup", "--data", str(tmp_path / "data")) as screen:
        screen.answers("Passphrase", "MARKone")
        screen.answers("once more", "MARKone")
        screen.answers("Account", "desk@x.example")
        screen.answers("Its password", "MARKtwo")
        screen.shows("Server to dial")
        assert "MARK" not in screen.text


def test_without_an_account_one_looks_around_first_and_a_passphrase_holds(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with PseudoTerminal("run", "--no-tor", "--port", str(free_port()), "--data", str(data)) as screen:
        screen.answers("Passphrase", "secret")
        screen.answers("once more", "secret")
        screen.answers("Account", "")
        screen.shows("http://127.0.0.1")
        assert screen.interrupts() == 0
    assert "passphrase" in run_command("run", "--no-tor", "--data", str(data)).stderr


def test_looking_around_without_a_passphrase_writes_no_settings(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with PseudoTerminal("setup", "--data", str(data)) as screen:
        screen.answers("Passphrase")
        screen.answers("Account")
        assert screen.ends() == 0
    assert is_untouched(data)


def test_mistake_is_asked_again_alone_and_every_answer_is_offered_the_next_time(tmp_path: Path) -> None:
    data, port = tmp_path / "data", str(free_port())
    with PseudoTerminal("setup", "--data", str(data)) as screen:
        screen.answers("Passphrase", "one")
        screen.answers("once more", "two")
        screen.answers("two different ones.*\n.*Passphrase")
        for question, wrong, hint, right in (
            ("Account ", "desk", "Write it as name@server", "desk@x.example"),
            ("Its password", "pw", "", ""),
            ("Server to dial", "localhost", "Write 127.0.0.1", ""),
            ("Server to dial", "x.onion", "56 letters", "127.0.0.1"),
            ("Its port", "70000", "range", port),
        ):
            screen.answers(question, wrong)
            if hint:
                screen.shows(hint)
                if right:
                    screen.answers(question, right)
        screen.shows("It does not work")
        screen.answers("again/other/save", "save")
        screen.answers("verify or any", "any")
        screen.answers("Account of one", "desk@x.example")
        screen.shows("own account")
        screen.answers("Account of one", "ada@x.example")
        screen.answers("Name", "")
        screen.answers("Account of one", "bob@x.example")
        screen.answers("Name", "ada")
        screen.shows("Somebody else has this name")
        screen.answers("Name", "Bob")
        screen.answers("no more", "")
        screen.answers("desk's name", "x" * 41)
        screen.shows("1 to 40")
        screen.answers("desk's name", "Night line")
        screen.answers("First sentence", "")
        screen.shows("Settings are saved")
        assert screen.ends() == 0
    before = settings(data)
    assert before["xmpp"] == {"jid": "desk@x.example", "host": "127.0.0.1", "port": int(port), "certificate": "any"}
    keeps_all_by_enter(data)
    assert settings(data) == before


def keeps_all_by_enter(data: Path) -> None:
    with PseudoTerminal("setup", "--data", str(data)) as screen:
        for question in ("keep/change", r"desk@x\.example\]", "as it is", r"127\.0\.0\.1\]", r"\d+\]"):
            screen.answers(question)
        screen.answers("again/other/save", "save")
        screen.answers("verify or any")
        for question in (r"ada@x\.example\]", r"Ada\]", r"bob@x\.example\]", r"Bob\]", "no more", r"Night line\]"):
            screen.answers(question)
        screen.answers("First sentence")
        assert screen.ends() == 0, screen.text


@pytest.mark.parametrize(("credential", "asks"), [("wrong\n", False), ("\n", True)])
def test_wrong_credential_is_said_once_and_an_empty_one_is_none(tmp_path: Path, credential: str, asks: bool) -> None:
    data, phrase = tmp_path / "data", written(tmp_path / "phrase", "first\n")
    assert run_command("setup", "--data", str(data), "--new-passphrase-file", str(phrase)).returncode == 0
    written(tmp_path / "veilsupport-passphrase", credential)
    with PseudoTerminal("setup", "--data", str(data), env={"CREDENTIALS_DIRECTORY": str(tmp_path)}) as screen:
        if asks:
            screen.answers("Passphrase of the appliance's key", "first")
            screen.answers("keep/change/off")
            screen.answers("Account")
        assert screen.ends() == (0 if asks else 2), screen.text
        assert screen.text.count("does not open") == (0 if asks else 1)


def test_password_of_one_account_is_not_taken_for_another(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "data")]
    assert run_command("setup", *data, "--jid", "desk@x.example", env=PASSWORD).returncode == 0
    done = run_command("setup", *data, "--jid", "desk@y.example")
    assert (done.returncode, "password is missing" in done.stderr) == (2, True)
    assert settings(tmp_path / "data")["xmpp"]["jid"] == "desk@x.example"
    assert run_command("setup", *data, "--jid", "Desk@x.example", "--port", "5223").returncode == 0


def test_full_disk_is_said_and_what_was_set_stays(tmp_path: Path) -> None:
    data, phrase = tmp_path / "data", written(tmp_path / "phrase", "first\n")
    assert run_command("setup", "--data", str(data), "--name", "before").returncode == 0
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    for given in (["--name", "after"], ["--new-passphrase-file", str(phrase)]):
        done = on_full_disk("setup", "--data", str(data), *given)
        assert (done.returncode, "cannot be written" in done.stderr, "hint" in done.stderr) == (2, True, True), done
        assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    done = on_full_disk("setup", "--data", str(data), "--jid", "desk@x.example", env=PASSWORD)
    assert (done.returncode, "hint" in done.stderr) == (2, True), done
    assert settings(data) == {"desk": {"name": "before"}}


def on_full_disk(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """No file may become longer than nothing (setrlimit(2)): to the program, it is as if the disk were full."""
    full = ["prlimit", "--fsize=0", *COMMAND, *arguments]
    return subprocess.run(full, capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})})


def test_wrong_passphrase_is_asked_again_and_it_can_be_changed_and_taken_off(tmp_path: Path) -> None:
    data = tmp_path / "data"
    phrase = written(tmp_path / "phrase", "first\n")
    assert run_command("setup", "--data", str(data), "--new-passphrase-file", str(phrase)).returncode == 0
    with PseudoTerminal("setup", "--data", str(data)) as screen:
        screen.answers("Passphrase of the appliance's key", "wrong")
        screen.shows("does not open")
        screen.answers("Passphrase of the appliance's key", "first")
        screen.answers("keep/change/off", "change")
        screen.answers("Passphrase", "second")
        screen.answers("once more", "second")
        screen.answers("Account", "")
        assert screen.ends() == 0
    assert "does not open" in run_command("setup", *at(data, phrase), "--name", "x").stderr
    written(phrase, "second\n")
    with PseudoTerminal("setup", *at(data, phrase)) as screen:
        screen.answers("keep/change/off", "off")
        screen.answers("Account", "")
        assert screen.ends() == 0
    assert run_command("setup", "--data", str(data), "--name", "x").returncode == 0


def at(data: Path, phrase: Path) -> list[str]:
    return ["--data", str(data), "--passphrase-file", str(phrase)]
