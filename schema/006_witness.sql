-- A second record of each log that was read: one that was found again, some seconds later, where it had been read.
-- The last record read may already be one of a log that was made anew under a running program.
SET LOCAL usagebox.runs_with = '5'; -- the program before leaves it as it is: an older witness
SET LOCAL ROLE usagebox_owner;

ALTER TABLE consumer_offset
    ADD COLUMN witness_offset bigint NOT NULL DEFAULT -1,
    ADD COLUMN witness_fingerprint bigint NOT NULL DEFAULT 0;
