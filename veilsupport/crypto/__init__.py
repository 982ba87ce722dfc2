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

from veilsupport.crypto.appliance import ApplianceKey
from veilsupport.crypto.archive import ArchiveSetting, archive_keys, new_archive_words
from veilsupport.crypto.bodies import open_sealed, seal
from veilsupport.crypto.credentials import (
    CODE_WORDS,
    code_root,
    email_lookup,
    new_code,
    new_token,
    token_from_seed,
    token_root,
    words,
)
from veilsupport.crypto.keys import KeyPair, derive, new_key_pair, random_bytes, unwrap, unwrap_text, wrap, wrap_text
from veilsupport.crypto.onion import (
    ONION_HEAD,
    ONION_KEY_BYTES,
    SEALED_ONION_KEY_BYTES,
    new_onion_key,
    onion_access,
    onion_address,
)
from veilsupport.crypto.passwords import PASSPHRASE, PASSWORD, Cost, Passwords, new_salt, slow_hash
from veilsupport.crypto.streams import STREAM_EXTRA_BYTES, STREAM_HEADER_BYTES, OpeningStream, SealingStream

__all__ = [
    "CODE_WORDS",
    "ONION_HEAD",
    "ONION_KEY_BYTES",
    "PASSPHRASE",
    "PASSWORD",
    "SEALED_ONION_KEY_BYTES",
    "STREAM_EXTRA_BYTES",
    "STREAM_HEADER_BYTES",
    "ApplianceKey",
    "ArchiveSetting",
    "Cost",
    "KeyPair",
    "OpeningStream",
    "Passwords",
    "SealingStream",
    "archive_keys",
    "code_root",
    "derive",
    "email_lookup",
    "new_archive_words",
    "new_code",
    "new_key_pair",
    "new_onion_key",
    "new_salt",
    "new_token",
    "onion_access",
    "onion_address",
    "open_sealed",
    "random_bytes",
    "seal",
    "slow_hash",
    "token_from_seed",
    "token_root",
    "unwrap",
    "unwrap_text",
    "words",
    "wrap",
    "wrap_text",
]
