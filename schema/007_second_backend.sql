-- Batches are written over two connections in turn: whoever takes lanes over ends what their former owner left
-- under way on either.
SET LOCAL usagebox.runs_with = '6'; -- the program before writes over one, and leaves these as they are
SET LOCAL ROLE usagebox_owner;

ALTER TABLE consumer_offset
    ADD COLUMN second_backend_pid integer,
    ADD COLUMN second_backend_start timestamptz;
