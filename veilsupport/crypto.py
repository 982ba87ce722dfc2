"""Everything that seals, wraps, hashes or draws random numbers. The only importer of nacl and argon2.

Knows no database and no protocol: bytes in, bytes out. libsodium's constructions throughout; BLAKE2b with
distinct `person` strings separates what is derived from one secret.

Which key opens what:

    return code  ─ BLAKE2b, keyed with the pepper ─▶ root ─▶ look-up id, and the key that wraps the visitor's key
    e-mail       ─ BLAKE2b, keyed with the pepper ─▶ look-up id
    password     ─ Argon2id, row salt ────────────▶ root ─ with the pepper ─▶ the key that wraps the visitor's key
    token        ─ BLAKE2b ───────────────────────▶ hash in the row, and the key that wraps the visitor's key there
    visitor's X25519 key ─ crypto_box_seal ───────▶ bodies at rest
    recovery words ─ BLAKE2b ─────────────────────▶ the archive's X25519 key ─ crypto_box_seal ─▶ second copies
    appliance's key ─ BLAKE2b ────────────────────▶ pepper, outbox key, settings key, form key
    backup's passphrase ─ Argon2id ───────────────▶ root ─▶ key check, and the key of the backup's stream
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
import os
import re
import secrets
import struct
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import resources
from typing import Final

import argon2.exceptions
import argon2.low_level
import nacl.bindings
import nacl.exceptions
from nacl.encoding import RawEncoder
from nacl.hash import blake2b
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.secret import Aead

from veilsupport.errors import SealError, SetupError, VisitorError
from veilsupport.model import Author, Private

PAD_BYTES: Final = 256  # the length of a body shows only in steps of this
CODE_WORDS: Final = 7  # of 7772: 90 bits, which need no slow hash
ARCHIVE_WORDS: Final = 10  # 129 bits: nothing else guards the archive, for as long as a copy of the disk is kept
ARCHIVE_MAX_CHARACTERS: Final = 500
CODE_MAX_CHARACTERS: Final = 300  # seven words, generously spaced; normalising grows with the square of the length
_VERSION: Final = b"\x01"
_AUTHORS: Final = {Author.VISITOR: b"V", Author.ADMIN: b"A", Author.DESK: b"D"}
# version, conversation, author, sequence number, bytes of the name
_HEADER: Final = struct.Struct(">c16scQB")


def derive(secret: bytes, person: str, data: bytes = b"") -> bytes:
    """32 bytes that depend on all three; `person` (at most 16 bytes) separates the uses of one secret."""
    return blake2b(data, digest_size=32, key=secret, person=person.encode(), encoder=RawEncoder)


def random_bytes(count: int) -> bytes:
    return secrets.token_bytes(count)


# ---- the appliance's key ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ApplianceKey:
    """The one secret that the appliance itself rests on: 32 bytes, from which its working keys come."""

    secret: bytes = field(repr=False)
    pepper: bytes = field(init=False, repr=False)
    outbox: bytes = field(init=False, repr=False)
    settings: bytes = field(init=False, repr=False)
    forms: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("pepper", "outbox", "settings", "forms"):
            object.__setattr__(self, name, derive(self.secret, f"veil-{name}"))

    @classmethod
    def generate(cls) -> ApplianceKey:
        return cls(random_bytes(32))

    def to_file(self, passphrase: Private | None) -> bytes:
        """What rests on disk: the key itself, or the key wrapped under Argon2id of the passphrase."""
        if passphrase is None:
            return _json({"version": 1, "key": _b64(self.secret)})
        salt = random_bytes(16)
        wrapped = wrap(slow_hash(passphrase, salt, PASSPHRASE), self.secret, b"appliance")
        return _json({"version": 1, "salt": _b64(salt), "wrapped": _b64(wrapped)})

    @classmethod
    def from_file(cls, raw: bytes, passphrase: Private | None) -> ApplianceKey:
        """SetupError when the file is damaged, the passphrase wrong, or missing where one is needed."""
        try:
            stored = json.loads(raw)
            if "key" in stored:
                return cls(_unb64(stored["key"], 32))
            salt, wrapped = _unb64(stored["salt"], 16), _unb64(stored["wrapped"])
            if passphrase is None:
                raise SetupError("The appliance's key is protected by a passphrase.", hint="Give the passphrase.")
            return cls(unwrap(slow_hash(passphrase, salt, PASSPHRASE), wrapped, b"appliance"))
        except SealError:
            raise SetupError("The passphrase does not open the appliance's key.", hint="Try it again.") from None
        except (ValueError, KeyError, TypeError):
            raise _KEY_DAMAGED.anew() from None

    @staticmethod
    def needs_passphrase(raw: bytes) -> bool:
        return b'"wrapped"' in raw

    @classmethod
    def check_file(cls, raw: bytes) -> None:
        """As far as can be told without the passphrase. SetupError: it is damaged."""
        if not cls.needs_passphrase(raw):
            cls.from_file(raw, None)
            return
        try:
            stored = json.loads(raw)
            _unb64(stored["salt"], 16)
            _unb64(stored["wrapped"], 32 + _WRAP_BYTES)
        except (ValueError, KeyError, TypeError):
            raise _KEY_DAMAGED.anew() from None


_KEY_DAMAGED: Final = SetupError(
    "The appliance's key file is damaged.", hint="Put back appliance.key from a backup; do not delete it."
)


def _json(value: dict[str, object]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _unb64(text: str, length: int | None = None) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if length is not None and len(raw) != length:
        raise ValueError("wrong length")
    return raw


# ---- streams: what is too long to be sealed at once (a backup) -------------------------------------------------


class SealingStream:
    """crypto_secretstream_xchacha20poly1305: chunks that open only whole, in order, and up to the last (libsodium)."""

    def __init__(self, key: bytes) -> None:
        """The key may seal many streams: `header` (24 bytes), which the reader needs, is random."""
        self._state = nacl.bindings.crypto_secretstream_xchacha20poly1305_state()
        self.header: bytes = nacl.bindings.crypto_secretstream_xchacha20poly1305_init_push(self._state, key)

    def seal(self, chunk: bytes, context: bytes, *, last: bool) -> bytes:
        """17 bytes longer. TAG_FINAL marks the last chunk, so that a stream cut off between two is found out."""
        tag = _FINAL if last else nacl.bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
        return bytes(nacl.bindings.crypto_secretstream_xchacha20poly1305_push(self._state, chunk, context, tag))


class OpeningStream:
    def __init__(self, key: bytes, header: bytes) -> None:
        self._state = nacl.bindings.crypto_secretstream_xchacha20poly1305_state()
        nacl.bindings.crypto_secretstream_xchacha20poly1305_init_pull(self._state, header, key)

    def open(self, sealed: bytes, context: bytes) -> tuple[bytes, bool]:
        """The chunk, and whether it is the last. SealError: not the one that was sealed next with that context."""
        try:
            chunk, tag = nacl.bindings.crypto_secretstream_xchacha20poly1305_pull(self._state, sealed, context)
        except (nacl.exceptions.CryptoError, ValueError):
            raise SealError("A chunk of a sealed stream did not open.") from None
        return chunk, tag == _FINAL


_FINAL: Final = nacl.bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
STREAM_EXTRA_BYTES: Final = nacl.bindings.crypto_secretstream_xchacha20poly1305_ABYTES
STREAM_HEADER_BYTES: Final = nacl.bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES


# ---- wrapping with a secret key --------------------------------------------------------------------------


_WRAP_BYTES: Final = 24 + 16  # nonce and tag


def wrap(key: bytes, plain: bytes, context: bytes) -> bytes:
    """XChaCha20-Poly1305 with a random nonce; `context` is authenticated, so a row cannot be put in another's place."""
    return bytes(Aead(key).encrypt(plain, aad=context))


def unwrap(key: bytes, wrapped: bytes, context: bytes) -> bytes:
    """SealError when key, bytes or context are not the ones it was wrapped with."""
    try:
        return Aead(key).decrypt(wrapped, aad=context)
    except (nacl.exceptions.CryptoError, ValueError):
        raise SealError("A wrapped value did not open.") from None


def wrap_text(key: bytes, text: str, context: bytes) -> bytes:
    """As `wrap`, padded so that the length shows only in steps of PAD_BYTES."""
    return wrap(key, nacl.bindings.sodium_pad(text.encode(), PAD_BYTES), context)


def unwrap_text(key: bytes, wrapped: bytes, context: bytes) -> str:
    return nacl.bindings.sodium_unpad(unwrap(key, wrapped, context), PAD_BYTES).decode()


# ---- bodies at rest --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An X25519 pair, a visitor's or an onion client's, 32 bytes each."""

    public: bytes
    private: bytes = field(repr=False)


def new_key_pair() -> KeyPair:
    private = PrivateKey.generate()
    return KeyPair(bytes(private.public_key), bytes(private))


def seal(public_key: bytes, conversation: bytes, author: Author, seq: int, name: str, body: str) -> bytes:
    """A body that only the visitor's private key opens (crypto_box_seal), bound to its place in the conversation.

    crypto_box_seal authenticates no sender, so whoever can write to the database could seal a forgery; the
    binding inside stops bodies that were really written from being moved, swapped or replayed elsewhere.
    """
    raw_name = name.encode()[:255]
    header = _HEADER.pack(_VERSION, conversation, _AUTHORS[author], seq, len(raw_name))
    padded = nacl.bindings.sodium_pad(header + raw_name + body.encode(), PAD_BYTES)
    return bytes(SealedBox(PublicKey(public_key)).encrypt(padded))


def open_sealed(private_key: bytes, sealed: bytes, conversation: bytes, author: Author, seq: int) -> tuple[str, str]:
    """(name, body). SealError when it does not open, or opens to another place than this one."""
    try:
        padded = SealedBox(PrivateKey(private_key)).decrypt(sealed)
        plain = nacl.bindings.sodium_unpad(padded, PAD_BYTES)
        version, *place, name_bytes = _HEADER.unpack_from(plain)
    except (nacl.exceptions.CryptoError, ValueError, struct.error):
        raise SealError("A sealed body did not open.") from None
    if version != _VERSION or place != [conversation, _AUTHORS[author], seq]:
        raise SealError("A sealed body belongs to another place.")
    rest = plain[_HEADER.size :]
    return rest[:name_bytes].decode(errors="replace"), rest[name_bytes:].decode()


# ---- return codes, e-mail addresses, tokens --------------------------------------------------------------


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
    root = derive(pepper, "veil-code", _letters(code, CODE_MAX_CHARACTERS))
    return Root(derive(root, "veil-lookup"), derive(root, "veil-wrap"))


def _letters(words: Private, max_characters: int) -> bytes:
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


# ---- the archive -----------------------------------------------------------------------------------------


def new_archive_words() -> Private:
    return Private(" ".join(secrets.choice(words()) for _ in range(ARCHIVE_WORDS)))


def archive_keys(words: Private) -> KeyPair:
    """The pair that these words stand for; forgiving as a return code is.

    129 random bits need no slow hash. No pepper goes in: the words alone open the archive, when the appliance's key is
    lost as well.
    """
    private = derive(b"", "veil-archive-key", _letters(words, ARCHIVE_MAX_CHARACTERS))
    return KeyPair(bytes(PrivateKey(private).public_key), private)


@dataclass(frozen=True, slots=True)
class ArchiveSetting:
    """What rests of it: the public key, and whether copies are made at present."""

    on: bool
    public_key: bytes

    def to_bytes(self, settings_key: bytes) -> bytes:
        """Authenticated and not wrapped: reading the archive must not need the appliance's key, but whoever can write
        to the disk of an appliance that is off must not make it seal to a key of theirs."""
        plain = bytes([self.on]) + self.public_key
        return plain + derive(settings_key, "veil-archive", plain)

    @classmethod
    def from_bytes(cls, raw: bytes, settings_key: bytes) -> ArchiveSetting:
        """SealError: it was changed, or made by another appliance."""
        found = cls.unproved(raw)
        if not secrets.compare_digest(found.to_bytes(settings_key), raw):
            raise SealError("The archive's setting is not ours.")
        return found

    @classmethod
    def unproved(cls, raw: bytes) -> ArchiveSetting:
        """As it stands on the disk: good for comparing words with it, not for sealing. SealError: it is none."""
        if len(raw) != 65:
            raise SealError("The archive's setting is damaged.")
        return cls(raw[0] == 1, raw[1:33])


# ---- the onion services' keys -----------------------------------------------------------------------


_ONION_HEAD: Final = b"== ed25519v1-secret: type0 ==\0\0\0"
_ONION_VERSION: Final = b"\x03"
ONION_KEY_BYTES: Final = len(_ONION_HEAD) + 64
SEALED_ONION_KEY_BYTES: Final = ONION_KEY_BYTES + _WRAP_BYTES


def new_onion_key() -> bytes:
    """What tor reads as hs_ed25519_secret_key: its head, then an expanded Ed25519 secret key (RFC 8032 §5.1.5)."""
    expanded = bytearray(hashlib.sha512(random_bytes(32)).digest())
    expanded[0] &= 248
    expanded[31] &= 127
    expanded[31] |= 64
    return _ONION_HEAD + bytes(expanded)


def onion_address(key: bytes) -> str:
    """The …onion of such a key, as tor computes it (rend-spec-v3 §6)."""
    public = nacl.bindings.crypto_scalarmult_ed25519_base_noclamp(key[len(_ONION_HEAD) :][:32])
    checksum = hashlib.sha3_256(b".onion checksum" + public + _ONION_VERSION).digest()[:2]
    return base64.b32encode(public + checksum + _ONION_VERSION).decode().lower() + ".onion"


def onion_access(key: bytes) -> KeyPair:
    """The client key by which our own tor reaches the onion service of such a key, when that is for clients alone.

    Derived, so that it is kept nowhere, and a restored twin on another machine has the same. It opens nothing more:
    whoever holds the service's key can publish in its place.
    """
    private = PrivateKey(derive(hashlib.sha256(key).digest(), "onion access"))
    return KeyPair(bytes(private.public_key), bytes(private))


# ---- passwords -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    passes: int
    memory_kib: int


_PASSWORD: Final = Cost(passes=3, memory_kib=65_536)  # RFC 9106 §4, second recommendation; 0.14 s here
PASSPHRASE: Final = Cost(passes=4, memory_kib=262_144)  # once per start, so it may cost a second


def slow_hash(secret: Private, salt: bytes, cost: Cost) -> bytes:
    """32 bytes of Argon2id; as slow, and as hungry for memory, as the cost says. SetupError: there is not so much."""
    plain = unicodedata.normalize("NFKC", secret.reveal()).encode(errors="replace")
    try:
        return argon2.low_level.hash_secret_raw(
            plain, salt, cost.passes, cost.memory_kib, parallelism=1, hash_len=32, type=argon2.low_level.Type.ID
        )
    except argon2.exceptions.HashingError:
        raise SetupError(
            "There is too little memory to try the passphrase.",
            hint=f"It takes {-(-cost.memory_kib // 1024)} MB for a moment: end something else, or raise the limit.",
        ) from None


SALT_BYTES: Final = 32


def new_salt() -> bytes:
    """For a password."""
    return random_bytes(SALT_BYTES)


def _give_way() -> None:
    """Whoever writes goes before whoever signs in; on Linux this thread alone gets nicer (setpriority(2), NOTES)."""
    if sys.platform == "linux":
        os.nice(10)


class Passwords:
    """Argon2id on two threads with a bounded queue: two workers give the most log-ins a second, and each takes
    64 MiB, so more at once would cost memory and win nothing (facts/speed.md)."""

    WORKERS: Final = 2
    WAITING_MAX: Final = 128

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper
        self._pool = ThreadPoolExecutor(self.WORKERS, thread_name_prefix="argon2", initializer=_give_way)
        self._waiting = 0

    async def wrapping_key(self, password: Private, salt: bytes) -> bytes:
        """The key that wraps the visitor's private key. VisitorError (503): too many wait already, or no memory.

        It depends on the pepper, so that under a passphrase nobody can try passwords on a seized disk; but not with a
        salt of the shorter kind, which version 0.1.0 drew.
        """
        if self._waiting >= self.WAITING_MAX:
            raise _too_many()
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            root = await loop.run_in_executor(self._pool, slow_hash, password, salt, _PASSWORD)
        except SetupError:  # too little memory just now, which must not end the desk
            raise _too_many() from None
        finally:
            self._waiting -= 1
        return derive(root, "veil-wrap", self._pepper if len(salt) == SALT_BYTES else b"")

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _too_many() -> VisitorError:
    return VisitorError(
        "Too many people are signing in just now. Please try again in a few seconds.",
        status=503,
        code="busy",
        retry_after_seconds=10,
    )
