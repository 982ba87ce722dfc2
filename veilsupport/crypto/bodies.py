"""Bodies at rest: sealed to a visitor or to the archive, each for its one place."""

import struct
from typing import Final

import nacl.bindings
import nacl.exceptions

from veilsupport.crypto.keys import PAD_BYTES, KeyPair
from veilsupport.errors import SealError
from veilsupport.model import Author

_VERSION: Final = b"\x01"
_AUTHORS: Final = {Author.VISITOR: b"V", Author.ADMIN: b"A", Author.DESK: b"D"}
# version, conversation, author, sequence number, bytes of the name
_HEADER: Final = struct.Struct(">c16scQB")


def seal(public_key: bytes, conversation: bytes, author: Author, seq: int, name: str, body: str) -> bytes:
    """A body that only the visitor's private key opens (crypto_box_seal), bound to its place in the conversation.

    crypto_box_seal authenticates no sender, so whoever can write to the database could seal a forgery; the
    binding inside stops bodies that were really written from being moved, swapped or replayed elsewhere.
    """
    raw_name = name.encode()[:255]
    header = _HEADER.pack(_VERSION, conversation, _AUTHORS[author], seq, len(raw_name))
    padded = nacl.bindings.sodium_pad(header + raw_name + body.encode(), PAD_BYTES)
    return nacl.bindings.crypto_box_seal(padded, public_key)


def open_sealed(keys: KeyPair, sealed: bytes, conversation: bytes, author: Author, seq: int) -> tuple[str, str]:
    """(name, body). SealError when it does not open, or opens to another place than this one.

    The public half is asked for because the nonce comes from it: to compute it anew for each body of a page would make
    opening nearly half as dear again.
    """
    try:
        padded = nacl.bindings.crypto_box_seal_open(sealed, keys.public, keys.private)
        plain = nacl.bindings.sodium_unpad(padded, PAD_BYTES)
        version, *place, name_bytes = _HEADER.unpack_from(plain)
    except (nacl.exceptions.CryptoError, ValueError, struct.error):
        raise SealError("A sealed body did not open.") from None
    if version != _VERSION or place != [conversation, _AUTHORS[author], seq]:
        raise SealError("A sealed body belongs to another place.")
    rest = plain[_HEADER.size :]
    return rest[:name_bytes].decode(errors="replace"), rest[name_bytes:].decode()
