-- Which contract asked: the Competition may name another one later, and this one still waits for its answer. NULL in rows that an
-- earlier version wrote: the contract that is named now.
ALTER TABLE challenge ADD COLUMN contract TEXT;
