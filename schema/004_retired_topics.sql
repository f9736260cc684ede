-- A topic that is not among kafka.usage_topics any more: its rows held usage_watermark, and with it all seals, back for
-- ever. `usagebox offsets retire` marks them; who takes the topic's lanes over again makes them count again.
SET LOCAL usagebox.runs_with = '3'; -- the program before marks nothing, and waits as it always did
SET LOCAL ROLE usagebox_owner;

ALTER TABLE consumer_offset ADD COLUMN retired_at timestamptz;

CREATE OR REPLACE VIEW usage_watermark AS
    SELECT min(seen_through) AS complete_through FROM consumer_offset WHERE retired_at IS NULL;
