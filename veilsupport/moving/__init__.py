"""Moving house: the backup file, what comes out of it, and the first start at the new place."""
