-- Sites, and how far a visitor has read.
ALTER TABLE conversation ADD COLUMN site TEXT NOT NULL DEFAULT '';
ALTER TABLE conversation ADD COLUMN read_seq INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 2;
