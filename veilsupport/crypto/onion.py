"""The onion services' keys, as tor keeps them."""

import base64
import hashlib
from typing import Final

import nacl.bindings
from nacl.public import PrivateKey

from veilsupport.crypto.keys import WRAP_BYTES, KeyPair, derive, random_bytes

ONION_HEAD: Final = b"== ed25519v1-secret: type0 ==\0\0\0"
_ONION_VERSION: Final = b"\x03"
ONION_KEY_BYTES: Final = len(ONION_HEAD) + 64
SEALED_ONION_KEY_BYTES: Final = ONION_KEY_BYTES + WRAP_BYTES


def new_onion_key() -> bytes:
    """What tor reads as hs_ed25519_secret_key: its head, then an expanded Ed25519 secret key (RFC 8032 §5.1.5)."""
    expanded = bytearray(hashlib.sha512(random_bytes(32)).digest())
    expanded[0] &= 248
    expanded[31] &= 127
    expanded[31] |= 64
    return ONION_HEAD + bytes(expanded)


def onion_address(key: bytes) -> str:
    """The …onion of such a key, as tor computes it (rend-spec-v3 §6)."""
    public = nacl.bindings.crypto_scalarmult_ed25519_base_noclamp(key[len(ONION_HEAD) :][:32])
    checksum = hashlib.sha3_256(b".onion checksum" + public + _ONION_VERSION).digest()[:2]
    return base64.b32encode(public + checksum + _ONION_VERSION).decode().lower() + ".onion"


def onion_access(key: bytes) -> KeyPair:
    """The client key by which our own tor reaches the onion service of such a key, when that is for clients alone.

    Derived, so that it is kept nowhere, and a restored twin on another machine has the same. It opens nothing more:
    whoever holds the service's key can publish in its place.
    """
    private = PrivateKey(derive(hashlib.sha256(key).digest(), "onion access"))
    return KeyPair(bytes(private.public_key), bytes(private))
