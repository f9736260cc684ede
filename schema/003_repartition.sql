-- Partitions that were added to the usage topics: customers change lanes. `usagebox offsets repartition` records
-- where each log ends at that moment: what lies below is read by the former count, what lies from there on by the
-- new one, once all lanes have come so far. Advisory lock: (1430411330, 4).
SET LOCAL usagebox.runs_with = '2'; -- the program before stops its lanes, as it always did when partitions were added
SET LOCAL ROLE usagebox_owner;

-- At most one is under way (finished_at null). batch_id: batches below it were made before it was done; epoch: all
-- epochs before it are lower, all since are higher.
CREATE TABLE repartition (
    repartition_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_count integer NOT NULL CHECK (from_count > 0),
    to_count integer NOT NULL CHECK (to_count > from_count),
    partitioner text COLLATE "C" NOT NULL,
    actor text NOT NULL DEFAULT '',
    ordered_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    batch_id bigint,
    epoch bigint,
    CHECK ((finished_at IS NULL) = (batch_id IS NULL) AND (finished_at IS NULL) = (epoch IS NULL))
);
CREATE UNIQUE INDEX repartition_under_way ON repartition ((finished_at IS NULL)) WHERE finished_at IS NULL;

-- end_offset: below it the former count holds. 0 for partitions that were added.
CREATE TABLE repartition_end (
    repartition_id bigint NOT NULL REFERENCES repartition,
    topic text COLLATE "C" NOT NULL,
    kafka_partition integer NOT NULL,
    end_offset bigint NOT NULL CHECK (end_offset >= 0),
    PRIMARY KEY (repartition_id, topic, kafka_partition)
);

-- How many lanes there are. The setting stays what it was at first, so that a program that knows nothing of all this
-- finds another number than the topics have, and stops.
CREATE VIEW lane_count AS
    SELECT coalesce((SELECT to_count FROM repartition WHERE finished_at IS NOT NULL
                     ORDER BY repartition_id DESC LIMIT 1),
                    (SELECT value::integer FROM setting WHERE name = 'partition_count'), 0) AS lanes;

-- Partitions that have not come to the end that was recorded for them.
CREATE VIEW repartition_waits AS
    SELECT r.repartition_id, e.topic, e.kafka_partition, greatest(o.next_offset, 0) AS next_offset, e.end_offset
    FROM repartition r JOIN repartition_end e USING (repartition_id)
    LEFT JOIN consumer_offset o USING (topic, kafka_partition)
    WHERE r.finished_at IS NULL AND greatest(o.next_offset, 0) < e.end_offset;

GRANT SELECT ON repartition, repartition_end, lane_count, repartition_waits TO usagebox_writer, usagebox_finance;
