"""crypto by itself: what is sealed opens again, and nothing else opens."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings.crypto_generichash import generichash_blake2b_salt_personal

from veilsupport import crypto
from veilsupport.crypto import ApplianceKey, KeyPair, Passwords, keys
from veilsupport.errors import SealError, SetupError, VisitorError
from veilsupport.model import Author, Private

KEYS = crypto.new_key_pair()
HERE = b"c" * 16
text = st.text(st.characters(codec="utf-8"), max_size=600)


@given(text, text, st.sampled_from(Author), st.integers(1, 2**40))
def test_what_is_sealed_opens_again(name: str, body: str, author: Author, seq: int) -> None:
    name = name[:60]
    sealed = crypto.seal(KEYS.public, HERE, author, seq, name, body)
    assert crypto.open_sealed(KEYS, sealed, HERE, author, seq) == (name, body)


@given(st.data())
def test_any_flipped_bit_raises(data: st.DataObject) -> None:
    sealed = bytearray(crypto.seal(KEYS.public, HERE, Author.VISITOR, 1, "", "hello"))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        crypto.open_sealed(KEYS, bytes(sealed), HERE, Author.VISITOR, 1)


@pytest.mark.parametrize(
    ("conversation", "author", "seq"),
    [(b"d" * 16, Author.VISITOR, 1), (HERE, Author.ADMIN, 1), (HERE, Author.VISITOR, 2)],
)
def test_a_body_opens_only_in_its_own_place(conversation: bytes, author: Author, seq: int) -> None:
    sealed = crypto.seal(KEYS.public, HERE, Author.VISITOR, 1, "", "hello")
    with pytest.raises(SealError):
        crypto.open_sealed(KEYS, sealed, conversation, author, seq)


def test_another_key_opens_nothing() -> None:
    sealed = crypto.seal(KEYS.public, HERE, Author.VISITOR, 1, "", "hello")
    with pytest.raises(SealError):
        crypto.open_sealed(crypto.new_key_pair(), sealed, HERE, Author.VISITOR, 1)


def test_the_public_half_is_taken_as_given_and_not_computed_for_each_body() -> None:
    sealed = crypto.seal(KEYS.public, HERE, Author.VISITOR, 1, "", "hello")
    with pytest.raises(SealError):
        crypto.open_sealed(KeyPair(crypto.new_key_pair().public, KEYS.private), sealed, HERE, Author.VISITOR, 1)


@given(st.integers(0, 200), st.integers(0, 200))
def test_lengths_show_only_in_steps(one: int, other: int) -> None:
    assert len(crypto.seal(KEYS.public, HERE, Author.VISITOR, 1, "", "x" * one)) == len(
        crypto.seal(KEYS.public, HERE, Author.VISITOR, 1, "", "y" * other)
    )


@given(text)
def test_wrapped_text_comes_back(plain: str) -> None:
    wrapped = crypto.wrap_text(b"k" * 32, plain, b"here")
    assert crypto.unwrap_text(b"k" * 32, wrapped, b"here") == plain


@given(st.data())
def test_any_flipped_bit_of_a_wrapped_value_raises(data: st.DataObject) -> None:
    wrapped = bytearray(crypto.wrap(b"k" * 32, b"hello", b"here"))
    bit = data.draw(st.integers(0, len(wrapped) * 8 - 1))
    wrapped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        crypto.unwrap(b"k" * 32, bytes(wrapped), b"here")


def test_a_wrapped_value_opens_only_in_its_context() -> None:
    with pytest.raises(SealError):
        crypto.unwrap(b"k" * 32, crypto.wrap(b"k" * 32, b"hello", b"here"), b"there")


def test_a_code_has_seven_of_the_words() -> None:
    words = crypto.new_code().reveal().split()
    assert len(words) == crypto.CODE_WORDS
    assert set(words) <= set(crypto.words())


def test_the_words_give_ninety_bits() -> None:
    assert len(set(crypto.words())) ** crypto.CODE_WORDS >= 2**90


@pytest.mark.parametrize(
    "spelling", ["Abacus, abdomen-ABDUCT", " abacus\tabdomen\nabduct ", "1. abacus 2. abdomen 3. abduct"]
)
def test_a_code_is_read_forgivingly(spelling: str) -> None:
    plain = crypto.code_root(b"p" * 32, Private("abacus abdomen abduct"))
    assert crypto.code_root(b"p" * 32, Private(spelling)) == plain


def test_another_pepper_or_another_order_is_another_code() -> None:
    plain = crypto.code_root(b"p" * 32, Private("abacus abdomen")).lookup
    assert crypto.code_root(b"q" * 32, Private("abacus abdomen")).lookup != plain
    assert crypto.code_root(b"p" * 32, Private("abdomen abacus")).lookup != plain


@given(st.binary(min_size=1, max_size=64), st.text("abcdefghij-", max_size=16), st.binary(max_size=300))
def test_what_is_derived_is_libsodiums_keyed_and_personal_blake2b(secret: bytes, person: str, data: bytes) -> None:
    """On disk rests what was derived by libsodium: look-up ids, and what is wrapped under its keys."""
    libsodiums = generichash_blake2b_salt_personal(data, digest_size=32, key=secret, person=person.encode())
    assert keys.derive(secret, person, data) == libsodiums


def test_what_is_derived_depends_on_all_three() -> None:
    derived = {keys.derive(*of) for of in ((b"a", "p", b"d"), (b"b", "p", b"d"), (b"a", "q", b"d"), (b"a", "p", b"e"))}
    assert len(derived) == 4


def test_look_up_and_wrapping_key_differ() -> None:
    root = crypto.token_root(crypto.new_token())
    assert root.lookup != root.wrapping_key


def test_an_email_is_one_in_any_case() -> None:
    assert crypto.email_lookup(b"p" * 32, Private(" A@B.example")) == crypto.email_lookup(
        b"p" * 32, Private("a@b.EXAMPLE")
    )


def test_the_appliances_key_comes_back_from_its_file() -> None:
    key = ApplianceKey.generate()
    assert ApplianceKey.from_file(key.to_file(None), None) == key
    assert not ApplianceKey.needs_passphrase(key.to_file(None))


def test_a_passphrase_guards_the_appliances_key() -> None:
    key = ApplianceKey.generate()
    raw = key.to_file(Private("open sesame"))
    assert ApplianceKey.needs_passphrase(raw)
    assert ApplianceKey.from_file(raw, Private("open sesame")) == key
    for wrong in (None, Private("open sesam")):
        with pytest.raises(SetupError):
            ApplianceKey.from_file(raw, wrong)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"key": 1}', b'{"key": "!"}', b"\xff", b'{"key": "AAAA"}'])
def test_a_damaged_key_file_is_named_as_such(raw: bytes) -> None:
    with pytest.raises(SetupError, match="damaged"):
        ApplianceKey.from_file(raw, None)


def test_no_secret_prints() -> None:
    key = ApplianceKey(b"secret-secret-secret-secret-secr")
    assert "secret" not in repr(key)
    assert f"{Private('abacus')} {Private('abacus')!r} {Private('abacus'):>9} %s" % Private("abacus") == "· · · ·"


def test_too_many_waiting_log_ins_are_turned_away() -> None:
    async def crowd() -> None:
        passwords = Passwords(b"p" * 32)
        wanted = passwords.WAITING_MAX + 1
        tasks = [asyncio.create_task(passwords.wrapping_key(Private("p"), b"s" * 16)) for _ in range(wanted)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        [error] = [task.exception() for task in done if task.exception()]
        assert isinstance(error, VisitorError)
        assert error.status == 503
        passwords.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(crowd())


def test_password_is_of_no_use_without_the_pepper_but_for_the_salts_of_before() -> None:
    async def keys(salt: bytes) -> set[bytes]:
        found = set()
        for pepper in (b"p" * 32, b"q" * 32):
            passwords = Passwords(pepper)
            found.add(await passwords.wrapping_key(Private("a password"), salt))
            passwords.close()
        return found

    assert len(asyncio.run(keys(crypto.new_salt()))) == 2
    assert len(asyncio.run(keys(b"s" * 16))) == 1
