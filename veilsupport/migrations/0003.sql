-- Rooms, several admins, corrections, OMEMO.
ALTER TABLE conversation ADD COLUMN owner BLOB;
ALTER TABLE conversation ADD COLUMN waiting_minute INTEGER;
ALTER TABLE message ADD COLUMN state TEXT NOT NULL DEFAULT 'said' CHECK (state IN ('said', 'corrected', 'retracted'));
CREATE TABLE handle (
    key          BLOB PRIMARY KEY,
    conversation BLOB NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
    seq          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX handle_of ON handle (conversation);
CREATE TABLE room (
    conversation BLOB PRIMARY KEY REFERENCES conversation (id) ON DELETE CASCADE,
    address      BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE canned (
    name   TEXT PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE omemo (
    name   BLOB PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE cursor RENAME TO cursor_2;
CREATE TABLE cursor (
    archive  BLOB PRIMARY KEY,
    position BLOB NOT NULL,
    minute   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO cursor SELECT archive, CAST(position AS BLOB), minute FROM cursor_2;  -- not sealed until each moves on
DROP TABLE cursor_2;
ALTER TABLE delivery RENAME TO delivery_2;
DROP INDEX delivery_due;
DROP INDEX delivery_sent;
DROP INDEX delivery_of;
CREATE TABLE delivery (
    n            INTEGER PRIMARY KEY,
    stanza_id    TEXT NOT NULL UNIQUE,
    admin        BLOB NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('message', 'news', 'notice', 'retract', 'destroy')),
    conversation BLOB REFERENCES conversation (id) ON DELETE CASCADE,
    seq          INTEGER,
    state        TEXT NOT NULL CHECK (state IN ('held', 'due', 'sent', 'acked', 'arrived', 'read')),
    made_minute  INTEGER NOT NULL,
    due_minute   INTEGER NOT NULL,
    sent_minute  INTEGER,
    refusals     INTEGER NOT NULL,
    sealed       BLOB,
    sent_n       INTEGER,
    archived_as  BLOB
) STRICT;
INSERT INTO delivery (n, stanza_id, admin, kind, conversation, seq, state, made_minute, due_minute, sent_minute, refusals, sealed)
    SELECT n, stanza_id, admin, kind, conversation, seq, state, made_minute, due_minute, sent_minute, refusals, sealed FROM delivery_2;
DROP TABLE delivery_2;
CREATE INDEX delivery_due ON delivery (n) WHERE state = 'due';
CREATE INDEX delivery_sent ON delivery (n) WHERE state = 'sent';
CREATE INDEX delivery_held ON delivery (conversation, admin) WHERE state = 'held';
CREATE INDEX delivery_of ON delivery (conversation, seq);
CREATE INDEX delivery_open ON delivery (n) WHERE state IN ('due', 'sent');
CREATE INDEX delivery_unread ON delivery (admin, conversation, sent_n) WHERE state IN ('acked', 'arrived');
CREATE INDEX delivery_left ON delivery (sent_n);
UPDATE delivery SET sent_n = n WHERE sent_minute IS NOT NULL;
UPDATE conversation SET waiting_minute = (
    SELECT min(m.minute) FROM message m WHERE m.conversation = conversation.id AND m.author = 'visitor' AND m.seq > coalesce(
        (SELECT max(a.seq) FROM message a WHERE a.conversation = conversation.id AND a.author = 'admin'), 0))
    WHERE standing = 'open';
PRAGMA user_version = 3;
