#include "config_keys.h"

#define FIELD(member) offsetof(struct config, member)
#define DRAFT(member) offsetof(struct ceiling_draft, member)
#define CHOICES(names, count) .choices = (names), .choice_count = (count)
/* Names the columns, so that a row may leave its last ones out. */
#define KEY(path_, type_, offset_, fallback_, help_, ...)                                                    \
    {                                                                                                        \
        .path = (path_), .type = (type_), .offset = (offset_), .fallback = (fallback_), .help = (help_),     \
        ##__VA_ARGS__                                                                                        \
    }
#define SECOND_US INT64_C(1000000)
#define DAY_US (86400 * SECOND_US)

/* Throttling is not decided yet, so it can't be asked for. */
static const char *const policies[] = {[POLICY_ALERT] = "alert", [POLICY_HARD_STOP] = "hard-stop"};

const struct config_section config_sections[] = {
    {"kafka", "Where usage events come from and flags go to."},
    {"postgres", "Where everything is kept."},
    {"events", "Which event times are taken; others become dead letters."},
    {"dedupe", "How far back repeated events are recognised in memory."},
    {"batch", "What goes into one PostgreSQL transaction."},
    {"rollup", "What is summed up beside usage_hourly's fixed columns."},
    {"http", "Metrics, health and readiness."},
    {"log", "Standard error."},
    {NULL, NULL},
};

const struct config_key config_keys[] = {
    KEY("kafka.bootstrap_servers", CONFIG_SERVERS, FIELD(kafka.bootstrap_servers), "127.0.0.1:9092",
        "Brokers to ask for the others: host:port, several joined by commas."),
    KEY("kafka.usage_topics", CONFIG_TOPICS, FIELD(kafka.usage_topics), "usage",
        "Topics that events are read from; all with the same number of partitions."),
    KEY("kafka.enforcement_topic", CONFIG_TOPIC, FIELD(kafka.enforcement_topic), "enforcement",
        "Compacted topic that flags go to, with as many partitions as the usage topics."),
    KEY("kafka.dead_letter_topic", CONFIG_TOPIC, FIELD(kafka.dead_letter_topic), "",
        "Topic that gets a copy of each refused record; empty: none, PostgreSQL has them all.",
        .may_be_empty = true),
    KEY("kafka.group", CONFIG_TEXT, FIELD(kafka.group), "usagebox",
        "Consumer group; processes with the same one share the work."),
    KEY("kafka.partitioner", CONFIG_CHOICE, FIELD(kafka.partitioner), "auto",
        "How producers choose partitions: auto learns it from the records; murmur2 is Java's and kafkajs's "
        "way, "
        "crc32 "
        "librdkafka's, fnv1a Sarama's.",
        CHOICES(partitioner_names, PARTITIONER_COUNT)),
    KEY("kafka.properties", CONFIG_PROPERTIES, FIELD(kafka.properties), "",
        "Settings passed to librdkafka by their own names, such as security.protocol."),

    KEY("postgres.dsn", CONFIG_DSN, FIELD(postgres.dsn), "postgresql:///usagebox",
        "Connection string of the writer, as libpq takes it: a URI or key=value pairs."),
    KEY("postgres.owner_dsn", CONFIG_DSN, FIELD(postgres.owner_dsn), "",
        "Connection string of the owner, who migrates, adds day partitions and seals days; empty: the dsn.",
        .may_be_empty = true),

    KEY("events.max_age", CONFIG_DURATION, FIELD(events.max_age_us), "400d",
        "How long before its consumption an event may have happened.", .least = SECOND_US,
        .most = 3650 * DAY_US),
    KEY("events.max_future", CONFIG_DURATION, FIELD(events.max_future_us), "5m",
        "How long after its consumption an event may claim to happen: clocks differ.", .most = DAY_US),

    KEY("dedupe.window", CONFIG_DURATION, FIELD(dedupe.window_us), "24h",
        "How long after its end a day stays open in memory; later its repeats are found in PostgreSQL.",
        .most = 400 * DAY_US),
    KEY("dedupe.memory_limit", CONFIG_SIZE, FIELD(dedupe.memory_limit_bytes), "4GiB",
        "Most memory for keys of open days, 32 bytes each; at the limit intake slows down and an alert is "
        "raised.",
        .least = 1 << 20, .most = INT64_C(1) << 40),

    KEY("batch.max_rows", CONFIG_INTEGER, FIELD(batch.max_rows), "250000", "Most events in one transaction.",
        .least = 1, .most = 10000000),
    KEY("batch.max_delay", CONFIG_DURATION, FIELD(batch.max_delay_us), "1s",
        "How long an event waits at most for its transaction when there is no backlog.", .least = 1000,
        .most = 60 * SECOND_US),

    KEY("rollup.dimensions", CONFIG_FIELDS, FIELD(rollup.dimensions), "",
        "Fields of metadata that usage_hourly tells apart in its column dimensions.",
        CHOICES(event_lifted_names, LIFTED_COUNT)),
    KEY("rollup.runs", CONFIG_BOOL, FIELD(rollup.runs), "true", "Keep usage_run: what each agent run used."),

    KEY("ceilings", CONFIG_CEILINGS, FIELD(ceilings), "",
        "Limits on use; usagebox ceilings apply brings them into force."),

    KEY("http.listen", CONFIG_ADDRESS, FIELD(http.listen), "127.0.0.1:9464",
        "Address of /metrics, /healthz and /readyz; empty: none.", .may_be_empty = true),

    KEY("log.format", CONFIG_CHOICE, FIELD(log.format), "logfmt", "logfmt for people, json for collectors.",
        CHOICES(log_format_names, LOG_FORMATS)),
    KEY("log.level", CONFIG_CHOICE, FIELD(log.level), "info", "The least level that is logged.",
        CHOICES(log_level_names, LOG_LEVELS)),
    {.path = NULL},
};

_Static_assert(sizeof config_keys / sizeof *config_keys <= CONFIG_KEYS_LIMIT,
               "CONFIG_KEYS_LIMIT is too small");

/* Each item of ceilings. */
const struct config_key config_ceiling_keys[] = {
    KEY("ceilings.name", CONFIG_NAME, DRAFT(name), NULL, "Names the ceiling; each name once."),
    KEY("ceilings.customer", CONFIG_NAME, DRAFT(customer), "",
        "A customer_id, or \"*\" for every customer, each alone.", .may_be_empty = true),
    KEY("ceilings.plan", CONFIG_NAME, DRAFT(plan), "",
        "Instead of customer: every customer whose events say this plan_tier.", .may_be_empty = true),
    KEY("ceilings.scope", CONFIG_CHOICE, DRAFT(scope), "customer", "What has a counter of its own.",
        CHOICES(ceiling_scope_names, SCOPE_COUNT)),
    KEY("ceilings.meter", CONFIG_METER, DRAFT(meter), NULL, "The meter that is counted."),
    KEY("ceilings.period", CONFIG_CHOICE, DRAFT(period), NULL, "How often counting starts afresh, in UTC.",
        CHOICES(ceiling_period_names, PERIOD_COUNT)),
    KEY("ceilings.limit", CONFIG_DECIMAL, DRAFT(limit), NULL,
        "Crossed once more than this was used in a period."),
    KEY("ceilings.policy", CONFIG_CHOICE, DRAFT(policy), NULL, "What gateways are told once it is crossed.",
        CHOICES(policies, sizeof policies / sizeof *policies)),
    KEY("ceilings.clear_level", CONFIG_DECIMAL, DRAFT(clear_level), "",
        "Cleared once use is back at this, by corrections; empty: the limit.", .may_be_empty = true),
    {.path = NULL},
};
