-- The whole of what VeilSupport keeps, version 5. Units and meanings stand beside each column.
--
-- What is NOT here, and why: no network address, no user agent, no circuit (nobody is identified by them); no e-mail address
-- (only a keyed hash); no return code and no session token (only hashes, and keys wrapped under what they derive); no JID (a keyed
-- hash); no word of a delivered message that this file and the appliance's key together could open (bodies are sealed to the
-- visitor's key, which only their code, password or token unwraps), but for those held for an admin who is told only that
-- there is a message: until asked for, or until the conversation is closed, blocked or burned; and those that say what others
-- said just before them (`request`): until somebody opens the conversation, or it is burned; no time finer than a minute
-- (sequence numbers give the order). And no key that opens the archive, if the operator has turned it on: its second copies
-- (`archived`) open to the recovery words, which were shown once.
--
-- What a reader of this file does learn: how many visitors, sessions and messages there are, and whether someone comes
-- back by code or by e-mail; each conversation's alias, site and standing; in which minute each message was kept and each
-- session begun, about how long a message is (in steps of 256 bytes), which of the two sides wrote it, whether it was corrected, how far
-- it came, and to which of the admins (numbered by a hash) it went; who of them has claimed a conversation; which conversations
-- nobody has answered yet, and which of these began with the same words, though not with which; the names of
-- canned answers; how many OMEMO sessions there are. From `inbox`: in which minutes stanzas of the admins took effect, and how
-- many, those of burned conversations too. From `cursor`: how many archives (one for each room) are read, and in which
-- minute the newest stanza of each was taken; a burned conversation's is gone with it. From `archived`: that the archive was
-- turned on, and which messages have a copy in it.
--
-- What has expired (the settings' retention_days and idle_days) is gone from all tables. While the conversation of an expired
-- message is still there, so is, of what went to single admins, which stanzas they were and to whom, without when: burning
-- asks for their removal. `inbox` keeps its rows for two months, and longer where an archive was last read before that.

PRAGMA user_version = 5;

-- An anonymous person.
CREATE TABLE visitor (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),  -- random
    public_key  BLOB NOT NULL CHECK (length(public_key) = 32),  -- X25519; bodies are sealed to it
    made_minute INTEGER NOT NULL  -- Unix minutes
) STRICT, WITHOUT ROWID;

-- A way to come back. `lookup` is derived from the secret, so nothing here leads from row to secret.
CREATE TABLE credential (
    lookup      BLOB PRIMARY KEY CHECK (length(lookup) = 32),
    kind        TEXT NOT NULL CHECK (kind IN ('code', 'email')),
    visitor     BLOB NOT NULL REFERENCES visitor (id) ON DELETE CASCADE,
    salt        BLOB,  -- Argon2id's, 32 bytes (16: the wrapping does not depend on the appliance's key); NULL for a code, which needs no slow hash
    wrapped_key BLOB NOT NULL  -- the visitor's private key, under a key that only the secret gives
) STRICT, WITHOUT ROWID;
CREATE INDEX credential_of ON credential (visitor);

-- A visitor's signed-in browser.
CREATE TABLE session (
    token_hash  BLOB PRIMARY KEY CHECK (length(token_hash) = 32),
    visitor     BLOB NOT NULL REFERENCES visitor (id) ON DELETE CASCADE,
    wrapped_key BLOB NOT NULL,  -- the visitor's private key, under a key that only the token gives
    sealed_code BLOB,  -- the return code under the same key, until the visitor says that it is kept
    made_minute INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_of ON session (visitor);

-- The thread between one visitor and the desk; made by its first message.
CREATE TABLE conversation (
    id          BLOB PRIMARY KEY REFERENCES visitor (id) ON DELETE CASCADE,
    alias       TEXT NOT NULL UNIQUE,  -- heron-42: random, and all that admins call it
    standing    TEXT NOT NULL CHECK (standing IN ('open', 'closed', 'blocked')),
    last_seq    INTEGER NOT NULL,  -- of its newest message
    last_minute INTEGER NOT NULL,
    site        TEXT NOT NULL DEFAULT '',  -- name of the site through which it was begun; '' is the desk's own page
    read_seq    INTEGER NOT NULL DEFAULT 0,  -- the newest message that the visitor has looked at
    owner       BLOB,  -- the admin who has claimed it: keyed BLAKE2b of the bare JID; NULL is nobody
    waiting_minute INTEGER,  -- of the first message that nobody has answered yet; NULL: none waits
    request     INTEGER NOT NULL DEFAULT 0 CHECK (request IN (0, 1, 2)),  -- 0 taken on by an admin, 1 not yet,
                         -- 2 not yet, and folded: it says what others said, so what is in it is held for nobody yet
    alike       BLOB  -- random, and shared by requests that began with the same words; NULL once it is none, or says more
) STRICT, WITHOUT ROWID;
CREATE INDEX conversation_newest ON conversation (standing, last_minute);
CREATE INDEX conversation_folded ON conversation (alike) WHERE request = 2;

-- One utterance, clustered so that a page of history is one run of the tree.
CREATE TABLE message (
    conversation BLOB NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
    seq          INTEGER NOT NULL,  -- from 1; the oldest go when they expire, the others keep their numbers
    author       TEXT NOT NULL CHECK (author IN ('visitor', 'admin', 'desk')),
    progress     INTEGER NOT NULL,  -- 0 kept, 1 handed over, 2 on a device, 3 read
    minute       INTEGER NOT NULL,
    sealed       BLOB NOT NULL,  -- crypto_box_seal to the visitor; the author's name and the place stand inside
    state        TEXT NOT NULL DEFAULT 'said' CHECK (state IN ('said', 'corrected', 'retracted')),
    PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;

-- Second copies for those who answer, while the operator's archive is on.
CREATE TABLE archived (
    conversation BLOB NOT NULL,
    seq          INTEGER NOT NULL,
    sealed       BLOB NOT NULL,  -- crypto_box_seal to the archive; the author's name and the place stand inside
    PRIMARY KEY (conversation, seq),
    FOREIGN KEY (conversation, seq) REFERENCES message (conversation, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- By what an admin's later correction or retraction names which message.
CREATE TABLE handle (
    key          BLOB PRIMARY KEY,  -- keyed BLAKE2b of the admin and the stanza's id, or of the archive and its id there
    conversation BLOB NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
    seq          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX handle_of ON handle (conversation);

-- Where the admins meet a conversation's visitor. The address is chosen, and kept here, before the room is made.
CREATE TABLE room (
    conversation BLOB PRIMARY KEY REFERENCES conversation (id) ON DELETE CASCADE,
    address      BLOB NOT NULL  -- the room's bare JID, under the appliance's settings key
) STRICT, WITHOUT ROWID;

-- Which form or client id made which message, so that Back, reload and double click post once.
CREATE TABLE posted (
    conversation BLOB NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
    once         BLOB NOT NULL,  -- BLAKE2b of nonce and body
    seq          INTEGER NOT NULL,
    PRIMARY KEY (conversation, once)
) STRICT, WITHOUT ROWID;

-- One stanza due to one admin, or to a room: the outbox. `sealed` is erased when the XMPP server has acknowledged it.
CREATE TABLE delivery (
    n            INTEGER PRIMARY KEY,  -- the order in which they became due
    stanza_id    TEXT NOT NULL UNIQUE,  -- random; the same over every attempt
    admin        BLOB NOT NULL,  -- keyed BLAKE2b of the bare JID; 32 times 01: a room; 32 times 00: nobody yet
    kind         TEXT NOT NULL CHECK (kind IN ('message', 'news', 'notice', 'retract', 'destroy')),
    conversation BLOB REFERENCES conversation (id) ON DELETE CASCADE,  -- NULL: belongs to none
    seq          INTEGER,  -- the message it carries; NULL for all other kinds, and once that message has expired
    state        TEXT NOT NULL CHECK (state IN ('held', 'due', 'sent', 'acked', 'arrived', 'read')),  -- held: until asked for
    made_minute  INTEGER NOT NULL,  -- 0 once what it carried has expired
    due_minute   INTEGER NOT NULL,  -- not before this; later after each refusal
    sent_minute  INTEGER,  -- of the last attempt
    refusals     INTEGER NOT NULL,
    sealed       BLOB,  -- XChaCha20-Poly1305 under the appliance's outbox key; NULL once acknowledged
    sent_n       INTEGER,  -- the order in which they left
    archived_as  BLOB  -- keyed BLAKE2b of the id that the room's archive gave it: by that name it is marked as read
) STRICT;
CREATE INDEX delivery_due ON delivery (n) WHERE state = 'due';
CREATE INDEX delivery_sent ON delivery (n) WHERE state = 'sent';
CREATE INDEX delivery_held ON delivery (conversation, admin) WHERE state = 'held';
CREATE INDEX delivery_of ON delivery (conversation, seq);
CREATE INDEX delivery_open ON delivery (n) WHERE state IN ('due', 'sent');
CREATE INDEX delivery_unread ON delivery (admin, conversation, sent_n) WHERE state IN ('acked', 'arrived');
CREATE INDEX delivery_left ON delivery (sent_n);

-- Stanzas that took effect, so that each does so once.
CREATE TABLE inbox (
    key    BLOB PRIMARY KEY,  -- keyed BLAKE2b of the archive's id, or of sender and stanza id
    minute INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How far each archive (XEP-0313) has been read. Its ids are sealed: some servers make them of the time to the microsecond.
CREATE TABLE cursor (
    archive  BLOB PRIMARY KEY,  -- keyed BLAKE2b of its address
    position BLOB NOT NULL,  -- the archive's own id of the last stanza taken, under the appliance's settings key
    minute   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was set and is no line of the settings' file.
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL  -- wrapped under the appliance's settings key; but for `archive`: 1 on, 0 off; its X25519 public
                         -- key; a keyed BLAKE2b of both, so that nobody who writes to this file puts in a key of their own
) STRICT, WITHOUT ROWID;

-- Answers that admins keep for use again.
CREATE TABLE canned (
    name   TEXT PRIMARY KEY,
    sealed BLOB NOT NULL  -- the words, under the appliance's settings key
) STRICT, WITHOUT ROWID;

-- OMEMO: our identity, the sessions with the admins' devices, and which of these are trusted.
CREATE TABLE omemo (
    name   BLOB PRIMARY KEY,  -- keyed BLAKE2b of the entry's name, which holds a JID
    sealed BLOB NOT NULL  -- name and value, under the appliance's settings key
) STRICT, WITHOUT ROWID;
