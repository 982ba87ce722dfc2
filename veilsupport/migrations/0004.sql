-- The archive's second copies.
CREATE TABLE archived (
    conversation BLOB NOT NULL,
    seq          INTEGER NOT NULL,
    sealed       BLOB NOT NULL,
    PRIMARY KEY (conversation, seq),
    FOREIGN KEY (conversation, seq) REFERENCES message (conversation, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 4;
