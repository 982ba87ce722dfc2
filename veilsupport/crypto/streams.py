"""What is too long to be sealed at once: a backup."""

from typing import Final

import nacl.bindings
import nacl.exceptions

from veilsupport.errors import SealError

_FINAL: Final = nacl.bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
STREAM_EXTRA_BYTES: Final = nacl.bindings.crypto_secretstream_xchacha20poly1305_ABYTES
STREAM_HEADER_BYTES: Final = nacl.bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES


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
