-- Requests. What was there before counts as taken on, so that nobody is stopped in the middle.
ALTER TABLE conversation ADD COLUMN request INTEGER NOT NULL DEFAULT 0 CHECK (request IN (0, 1, 2));
ALTER TABLE conversation ADD COLUMN alike BLOB;
CREATE INDEX conversation_folded ON conversation (alike) WHERE request = 2;
PRAGMA user_version = 5;
