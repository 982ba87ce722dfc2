-- Whose turn it is, without a look at all that waits.
CREATE INDEX delivery_turn ON delivery (coalesce(conversation, kind) || admin, n) WHERE state = 'due';
PRAGMA user_version = 6;
