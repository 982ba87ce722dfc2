"""What a visitor proves who they are with: return codes, e-mail addresses, tokens."""

from __future__ import annotations

import base64
import functools
import re
import secrets
import unicodedata
from dataclasses import dataclass, field
from importlib import resources
from typing import Final

from veilsupport.crypto.keys import derive, random_bytes
from veilsupport.model import Private

CODE_WORDS: Final = 7  # of 7772: 90 bits, which need no slow hash
CODE_MAX_CHARACTERS: Final = 300  # seven words, generously spaced; normalising grows with the square of the length


@dataclass(frozen=True, slots=True)
class Root:
    """What a credential proves: the row's look-up id, and the key that wraps the visitor's private key there."""

    lookup: bytes
    wrapping_key: bytes = field(repr=False)


@functools.cache
def words() -> tuple[str, ...]:
    """The EFF's large word list, less its four words with a hyphen, which is no letter to the reader of a code."""
    text = resources.files("veilsupport").joinpath("words.txt").read_text("ascii")
    return tuple(word for word in text.split() if word.isalpha())


def new_code() -> Private:
    return Private(" ".join(secrets.choice(words()) for _ in range(CODE_WORDS)))


def code_root(pepper: bytes, code: Private) -> Root:
    """Forgiving of case, blanks, dashes, commas and numbering: only the letters count."""
    root = derive(pepper, "veil-code", letters(code, CODE_MAX_CHARACTERS))
    return Root(derive(root, "veil-lookup"), derive(root, "veil-wrap"))


def letters(words: Private, max_characters: int) -> bytes:
    """Words as somebody typed them, less all that people add or leave out between them."""
    plain = unicodedata.normalize("NFKD", words.reveal()[:max_characters]).casefold()
    return re.sub(r"[^a-z]", "", plain).encode()


def email_lookup(pepper: bytes, email: Private) -> bytes:
    """The address itself is stored nowhere; under an unlocked pepper a guessed one can be confirmed."""
    return derive(pepper, "veil-email", unicodedata.normalize("NFKC", email.reveal()).strip().casefold().encode())


def new_token() -> Private:
    return Private(base64.urlsafe_b64encode(random_bytes(32)).decode().rstrip("="))


def token_from_seed(forms_key: bytes, seed: bytes) -> Private:
    """The session that a start form leads to: one form, one session, however often it is sent."""
    return Private(base64.urlsafe_b64encode(derive(forms_key, "veil-start", seed)).decode().rstrip("="))


def token_root(token: Private) -> Root:
    """256 random bits need neither a slow hash nor a key."""
    raw = token.reveal().encode(errors="replace")[:64]
    return Root(derive(raw, "veil-token"), derive(raw, "veil-session"))
