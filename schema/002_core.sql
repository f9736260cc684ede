-- The tables of UsageBox. Text that identifies something is COLLATE "C": compared as bytes, so that neither an
-- operating system's upgrade nor a locale ever changes an index or the order in which rows are locked.
-- Advisory locks: (1430411330, 1) migrate, (1430411330, 2) make partitions, (1430411330, 3) seal.
SET LOCAL ROLE usagebox_owner;

-- Append-only ------------------------------------------------------------------------------------------------

CREATE FUNCTION usagebox_refuse() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = public, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege', HINT = 'Corrections are new events.';
END
$$;

-- A parent's statement triggers do not fire for a leaf that is named, row triggers do not fire for TRUNCATE, and
-- session_replication_role = replica passes by all that are not ENABLE ALWAYS: hence this, on every table alone.
CREATE FUNCTION usagebox_append_only(target regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = public, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s '
                   'FOR EACH STATEMENT EXECUTE FUNCTION usagebox_refuse()', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', target);
    EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %s FROM usagebox_owner', target);
    EXECUTE format('GRANT SELECT, INSERT ON %s TO usagebox_writer', target);
    EXECUTE format('GRANT SELECT ON %s TO usagebox_finance', target);
END
$$;

-- Raw events -------------------------------------------------------------------------------------------------

-- One row per accepted event, for ever. Leaves: usage_event_YYYYMMDD by UTC day, made by usagebox_make_day().
-- The order of the columns keeps padding small.
CREATE TABLE usage_event (
    event_time timestamptz NOT NULL,
    ingested_at timestamptz NOT NULL,
    kafka_offset bigint NOT NULL,
    kafka_partition integer NOT NULL,
    quantity numeric(38, 9) NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL DEFAULT '',
    corrects text COLLATE "C" NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    provider text COLLATE "C" NOT NULL DEFAULT '',
    service_tier text COLLATE "C" NOT NULL DEFAULT '',
    gpu_type text COLLATE "C" NOT NULL DEFAULT '',
    agent_id text COLLATE "C" NOT NULL DEFAULT '',
    run_id text COLLATE "C" NOT NULL DEFAULT '',
    parent_run_id text COLLATE "C" NOT NULL DEFAULT '',
    user_id text COLLATE "C" NOT NULL DEFAULT '',
    operation text COLLATE "C" NOT NULL DEFAULT '',
    tool_name text COLLATE "C" NOT NULL DEFAULT '',
    context_window text COLLATE "C" NOT NULL DEFAULT '',
    plan_tier text COLLATE "C" NOT NULL DEFAULT '',
    credit_balance numeric,
    contractual_cap numeric,
    topic text COLLATE "C" NOT NULL,
    payload json NOT NULL,
    CONSTRAINT usage_event_quantity_is_a_number CHECK (quantity <> 'NaN'),
    CONSTRAINT usage_event_credit_balance_is_a_number
        CHECK (credit_balance NOT IN ('NaN', 'Infinity', '-Infinity')),
    CONSTRAINT usage_event_contractual_cap_is_a_number
        CHECK (contractual_cap NOT IN ('NaN', 'Infinity', '-Infinity'))
) PARTITION BY RANGE (event_time);
SELECT usagebox_append_only('usage_event');

-- Makes a day's leaf and its dedupe segments; false if the leaf is there already. A day that has its leaf but no
-- segments is sealed and adopted by all: they stay away.
CREATE FUNCTION usagebox_make_day(day date) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = public, pg_temp
AS $$
DECLARE
    leaf text := 'usage_event_' || to_char(day, 'YYYYMMDD');
    segment text := 'dedupe_segment_' || to_char(day, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(1430411330, 2);
    IF to_regclass(leaf) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE usage_event INCLUDING ALL)', leaf);
    PERFORM usagebox_append_only(leaf::regclass);
    EXECUTE format('CREATE TABLE %I (lane integer NOT NULL, batch_id bigint NOT NULL, keys bytea NOT NULL, '
                   'created_at timestamptz NOT NULL DEFAULT now())', segment);
    EXECUTE format('ALTER TABLE %I ALTER keys SET STORAGE EXTERNAL', segment);
    EXECUTE format('CREATE INDEX ON %I (lane)', segment);
    EXECUTE format('GRANT SELECT, INSERT ON %I TO usagebox_writer', segment);
    EXECUTE format('GRANT SELECT ON %I TO usagebox_finance', segment);
    EXECUTE format('ALTER TABLE usage_event ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', leaf,
                   to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
    RETURN true;
END
$$;
REVOKE EXECUTE ON FUNCTION usagebox_make_day(date), usagebox_append_only(regclass) FROM PUBLIC;

-- An event that says something else than the one first accepted under its id.
CREATE TABLE event_conflict (
    conflict_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset bigint NOT NULL,
    event_time timestamptz NOT NULL,
    quantity numeric(38, 9) NOT NULL,
    kind text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL DEFAULT '',
    payload json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON event_conflict (customer_id, meter, event_id);

-- A record that was refused, with its bytes untouched. headers: [name, base64 of its value or null], in order;
-- json and not jsonb, which refuses names that hold a NUL.
CREATE TABLE dead_letter (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reason text COLLATE "C" NOT NULL,
    detail text NOT NULL,
    key bytea,
    payload bytea,
    headers json NOT NULL,
    record_time timestamptz,
    topic text COLLATE "C" NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    replayed_at timestamptz,
    copied_at timestamptz -- to kafka.dead_letter_topic
);
CREATE INDEX ON dead_letter (topic, kafka_partition, kafka_offset);
CREATE INDEX ON dead_letter (dead_letter_id) WHERE copied_at IS NULL;

-- Rollups ----------------------------------------------------------------------------------------------------

CREATE TABLE usage_hourly (
    customer_id text COLLATE "C" NOT NULL,
    hour timestamptz NOT NULL,
    meter text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL DEFAULT '',
    dimensions jsonb NOT NULL DEFAULT '{}',
    events bigint NOT NULL,
    quantity numeric NOT NULL,
    adjustment numeric NOT NULL,
    first_event_at timestamptz NOT NULL,
    last_event_at timestamptz NOT NULL,
    PRIMARY KEY (customer_id, hour, meter, model, dimensions)
) WITH (fillfactor = 70);

CREATE TABLE usage_run (
    customer_id text COLLATE "C" NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    agent_id text COLLATE "C" NOT NULL DEFAULT '',
    user_id text COLLATE "C" NOT NULL DEFAULT '',
    meter text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL DEFAULT '',
    parent_run_id text COLLATE "C" NOT NULL DEFAULT '',
    events bigint NOT NULL,
    quantity numeric NOT NULL,
    first_event_at timestamptz NOT NULL,
    last_event_at timestamptz NOT NULL,
    PRIMARY KEY (customer_id, run_id, agent_id, user_id, meter, model)
) WITH (fillfactor = 70);

-- Made on first sight; name, currency, time zone and unit are for finance and operators to fill in.
CREATE TABLE customer (
    customer_id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL DEFAULT '',
    currency text NOT NULL DEFAULT '',
    time_zone text NOT NULL DEFAULT '',
    first_seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE meter (
    meter text COLLATE "C" PRIMARY KEY,
    name text NOT NULL DEFAULT '',
    unit text NOT NULL DEFAULT '',
    first_seen_at timestamptz NOT NULL DEFAULT now()
);

-- Positions, ledger, dedupe ----------------------------------------------------------------------------------

-- Where each partition stands: the one truth about what was consumed. next_offset -1: nothing yet, start at the
-- log's start. epoch rises with every owner: a batch is committed only under the epoch that it was made under.
-- chain is the last ledger row's.
CREATE TABLE consumer_offset (
    topic text COLLATE "C" NOT NULL,
    kafka_partition integer NOT NULL,
    next_offset bigint NOT NULL DEFAULT -1,
    epoch bigint NOT NULL DEFAULT 0,
    last_offset bigint NOT NULL DEFAULT -1,
    last_fingerprint bigint NOT NULL DEFAULT 0,
    seen_through timestamptz NOT NULL DEFAULT 'epoch',
    chain bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (octet_length(chain) = 32),
    owner text NOT NULL DEFAULT '',
    backend_pid integer,
    backend_start timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, kafka_partition)
) WITH (fillfactor = 50);

CREATE VIEW usage_watermark AS SELECT min(seen_through) AS complete_through FROM consumer_offset;

-- What became of each offset, by transaction and partition. Leaves: batch_ledger_YYYYMM, made by
-- usagebox_make_month(). next_offset - first_offset = accepted + duplicate + dead + hole + gap. digest: the sum,
-- modulo 2^128 and big-endian, of a keyed hash of each accepted or dead record. chain: BLAKE2b-256 of the chain
-- before and this row (rollup/ledger.h). reason and actor: of gaps, and of what a person has ordered.
CREATE SEQUENCE batch_id;
CREATE TABLE batch_ledger (
    batch_id bigint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    kafka_partition integer NOT NULL,
    epoch bigint NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    accepted bigint NOT NULL,
    duplicate bigint NOT NULL,
    dead bigint NOT NULL,
    hole bigint NOT NULL,
    gap bigint NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 16),
    chain bytea NOT NULL CHECK (octet_length(chain) = 32),
    reason text NOT NULL DEFAULT '',
    actor text NOT NULL DEFAULT '',
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, kafka_partition, batch_id, committed_at)
) PARTITION BY RANGE (committed_at);
SELECT usagebox_append_only('batch_ledger');

CREATE FUNCTION usagebox_make_month(day date) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = public, pg_temp
AS $$
DECLARE
    month timestamp := date_trunc('month', day::timestamp);
    leaf text := 'batch_ledger_' || to_char(month, 'YYYYMM');
BEGIN
    PERFORM pg_advisory_xact_lock(1430411330, 2);
    IF to_regclass(leaf) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE batch_ledger INCLUDING ALL)', leaf);
    PERFORM usagebox_append_only(leaf::regclass);
    EXECUTE format('ALTER TABLE batch_ledger ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', leaf,
                   to_char(month, 'YYYY-MM-DD') || ' 00:00:00+00',
                   to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00');
    RETURN true;
END
$$;
REVOKE EXECUTE ON FUNCTION usagebox_make_month(date) FROM PUBLIC;

-- Days whose identities are proved by a unique index on their leaf. duplicates: what building it found, if it
-- could not be built; report says which.
CREATE TABLE sealed_day (
    day date PRIMARY KEY,
    sealed_at timestamptz NOT NULL DEFAULT now(),
    duplicates bigint NOT NULL DEFAULT 0,
    report jsonb NOT NULL DEFAULT '[]'
);
CREATE TABLE sealed_day_adoption (
    day date NOT NULL,
    lane integer NOT NULL,
    batch_id bigint NOT NULL,
    PRIMARY KEY (day, lane)
);

-- Enforcement ------------------------------------------------------------------------------------------------

-- Every version that each ceiling ever had. In force: retired_at IS NULL. generation: the one that brought it;
-- retired_generation: the first one without it.
CREATE TABLE ceiling (
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    who_kind text COLLATE "C" NOT NULL CHECK (who_kind IN ('everyone', 'customer', 'plan')),
    who text COLLATE "C" NOT NULL DEFAULT '',
    scope text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    period text COLLATE "C" NOT NULL,
    limit_quantity numeric(38, 9) NOT NULL CHECK (limit_quantity <> 'NaN'),
    clear_level numeric(38, 9) NOT NULL CHECK (clear_level <> 'NaN'),
    policy text COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    retired_generation bigint,
    applied_by text NOT NULL DEFAULT '',
    PRIMARY KEY (name, version)
);
CREATE UNIQUE INDEX ceiling_in_force ON ceiling (name) WHERE retired_at IS NULL;

CREATE TABLE ceiling_adoption (
    lane integer PRIMARY KEY,
    generation bigint NOT NULL,
    batch_id bigint NOT NULL
);

CREATE TABLE ceiling_usage (
    lane integer NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    period text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    used numeric NOT NULL,
    PRIMARY KEY (lane, customer_id, meter, period, scope, period_start)
) WITH (fillfactor = 70);

CREATE TABLE ceiling_state (
    lane integer NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    ceiling text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    version bigint NOT NULL,
    transition bigint NOT NULL,
    active boolean NOT NULL,
    decision_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (lane, customer_id, ceiling, scope, period_start)
) WITH (fillfactor = 70);

-- Accepted events of sealed days that no ceiling has counted yet: they are counted one batch later.
CREATE TABLE ceiling_pending (
    topic text COLLATE "C" NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset bigint NOT NULL,
    lane integer NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    quantity numeric(38, 9) NOT NULL,
    event_time timestamptz NOT NULL,
    model text COLLATE "C" NOT NULL DEFAULT '',
    user_id text COLLATE "C" NOT NULL DEFAULT '',
    agent_id text COLLATE "C" NOT NULL DEFAULT '',
    plan_tier text COLLATE "C" NOT NULL DEFAULT '',
    credit_balance numeric,
    contractual_cap numeric,
    PRIMARY KEY (topic, kafka_partition, kafka_offset)
);

-- transition: odd crossed, even cleared. The event's columns are empty unless source is 'event'.
CREATE TABLE policy_decision (
    decision_id text COLLATE "C" PRIMARY KEY,
    lane integer NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    ceiling text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    scope text COLLATE "C" NOT NULL,
    policy text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    transition bigint NOT NULL,
    period text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    limit_quantity numeric NOT NULL,
    used numeric NOT NULL,
    source text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL DEFAULT '',
    kafka_partition integer,
    kafka_offset bigint,
    event_id text COLLATE "C" NOT NULL DEFAULT '',
    event_time timestamptz,
    decided_at timestamptz NOT NULL,
    published boolean NOT NULL,
    decision_trace jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON policy_decision (customer_id, decided_at);
SELECT usagebox_append_only('policy_decision');

-- identity_secret (bytes), partitioner, partition_count, ceilings_generation (value)
CREATE TABLE setting (
    name text COLLATE "C" PRIMARY KEY,
    value text NOT NULL DEFAULT '',
    bytes bytea
);

-- Privileges -------------------------------------------------------------------------------------------------

GRANT SELECT, INSERT, UPDATE ON usage_hourly, usage_run, consumer_offset, ceiling_usage, ceiling_state,
    ceiling_adoption TO usagebox_writer;
GRANT SELECT, INSERT ON event_conflict, dead_letter, customer, meter, sealed_day_adoption, setting
    TO usagebox_writer;
GRANT UPDATE (replayed_at, copied_at) ON dead_letter TO usagebox_writer;
GRANT SELECT, INSERT, DELETE ON ceiling_pending TO usagebox_writer;
GRANT SELECT ON usage_watermark, sealed_day, ceiling TO usagebox_writer;
GRANT USAGE ON SEQUENCE batch_id TO usagebox_writer;

-- All but `setting`, which holds a secret.
GRANT SELECT ON event_conflict, dead_letter, usage_hourly, usage_run, customer, meter, consumer_offset,
    usage_watermark, sealed_day, sealed_day_adoption, ceiling, ceiling_adoption, ceiling_usage, ceiling_state,
    ceiling_pending TO usagebox_finance;
