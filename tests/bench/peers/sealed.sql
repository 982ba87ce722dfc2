-- What the sealing references keep: one row for a message, one for the admins. The same in Python and in Node.

CREATE TABLE message (
    conversation BLOB NOT NULL,  -- 16 bytes
    seq          INTEGER NOT NULL,  -- from 1
    minute       INTEGER NOT NULL,  -- Unix minutes
    sealed       BLOB NOT NULL,  -- crypto_box_seal to the account, padded to 256 bytes
    PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    n            INTEGER PRIMARY KEY,
    conversation BLOB NOT NULL,
    seq          INTEGER NOT NULL,
    sealed       BLOB NOT NULL  -- the nonce and XChaCha20-Poly1305 under the server's key, padded the same
) STRICT;
