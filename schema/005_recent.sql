-- What `usagebox status` asks of the last day stays quick however much was kept: rows come in by time, so that an index
-- of the least and the greatest per range of pages is enough, and costs next to nothing.
SET LOCAL usagebox.runs_with = '3';
SET LOCAL ROLE usagebox_owner;

CREATE INDEX ON batch_ledger USING brin (committed_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX ON dead_letter USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX ON event_conflict USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
