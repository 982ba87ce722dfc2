"""Keys by themselves: drawn, derived, in pairs; and one value wrapped under one."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import nacl.bindings
import nacl.exceptions
from nacl.public import PrivateKey

from veilsupport.errors import SealError

PAD_BYTES: Final = 256  # the length of what is sealed shows only in steps of this
_NONCE_BYTES: Final = 24
WRAP_BYTES: Final = _NONCE_BYTES + 16  # and the tag


def random_bytes(count: int) -> bytes:
    return secrets.token_bytes(count)


def derive(secret: bytes, person: str, data: bytes = b"") -> bytes:
    """32 bytes that depend on all three; `person` (at most 16 bytes) separates the uses of one secret."""
    return blake2b(data, digest_size=32, key=secret, person=person.encode()).digest()


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An X25519 pair, a visitor's or an onion client's, 32 bytes each."""

    public: bytes
    private: bytes = field(repr=False)


def new_key_pair() -> KeyPair:
    private = PrivateKey.generate()
    return KeyPair(bytes(private.public_key), bytes(private))


def wrap(key: bytes, plain: bytes, context: bytes) -> bytes:
    """XChaCha20-Poly1305 with a random nonce; `context` is authenticated, so a row cannot be put in another's place."""
    nonce = random_bytes(_NONCE_BYTES)
    return nonce + nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, context, nonce, key)


def unwrap(key: bytes, wrapped: bytes, context: bytes) -> bytes:
    """SealError when key, bytes or context are not the ones it was wrapped with."""
    try:
        nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, context, nonce, key)
    except (nacl.exceptions.CryptoError, ValueError):
        raise SealError("A wrapped value did not open.") from None


def wrap_text(key: bytes, text: str, context: bytes) -> bytes:
    """As `wrap`, padded so that the length shows only in steps of PAD_BYTES."""
    return wrap(key, nacl.bindings.sodium_pad(text.encode(), PAD_BYTES), context)


def unwrap_text(key: bytes, wrapped: bytes, context: bytes) -> str:
    return nacl.bindings.sodium_unpad(unwrap(key, wrapped, context), PAD_BYTES).decode()
