-- columnstore_vacuum: Return the space of the rows that columnstore_merge removed. Not in a transaction.
-- Parameters: none; {relation} is the chunk, or its part in the columnstore.
-- Result:     none. Skipped if anything uses the relation, because it blocks readers: for milliseconds, as the chunk is
--             empty by then and its part in the columnstore is a tenth of its size.
VACUUM (FULL, SKIP_LOCKED) {relation};
