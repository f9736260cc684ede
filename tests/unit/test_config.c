/* What the configuration promises: every key can be set in the file and in the environment, everything wrong
 * is reported with its place, and no secret is ever shown. */
#include <check.h>
#include <stdlib.h>
#include <unistd.h>
#include <stdio.h>

#include "config.h"
#include "config_reader.h"
#include "suite.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* A file with this text; removed when the test's process ends. */
static char path[64];

static const char *write_file(const char *text)
{
    strcpy(path, "/tmp/usagebox-config-XXXXXX");
    int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    ck_assert_int_eq(write(file, text, strlen(text)), (ssize_t)strlen(text));
    close(file);
    return path;
}

static void remove_file(void)
{
    unlink(path);
}

static struct config load(const char *yaml)
{
    struct config config;
    struct config_errors errors = {0};
    bool loaded = config_load(write_file(yaml), &config, &errors);
    remove_file();
    ck_assert_msg(loaded, "%s", errors.count > 0 ? errors.items[0] : "no error said");
    ck_assert_uint_eq(errors.count, 0);
    return config;
}

static char *printed(const char *yaml)
{
    struct config config = load(yaml);
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    config_print(&config, out);
    fclose(out);
    config_free(&config);
    return text;
}

/* The file must be refused with exactly these errors; each starts after the path where it starts with ':'. */
static void expect_errors(const char *yaml, const char *const *expected)
{
    struct config config;
    struct config_errors errors = {0};
    bool loaded = config_load(write_file(yaml), &config, &errors);
    remove_file();
    ck_assert_msg(!loaded, "accepted: %s", yaml);
    size_t i = 0;
    for (; i < errors.count && expected[i]; i++) {
        bool in_file = expected[i][0] == ':';
        const char *found = errors.items[i];
        if (in_file)
            ck_assert_int_eq(strncmp(found, path, strlen(path)), 0);
        ck_assert_str_eq(in_file ? found + strlen(path) : found, expected[i]);
    }
    ck_assert_msg(!expected[i], "missing: %s", expected[i]);
    ck_assert_msg(i == errors.count, "one too many: %s", errors.items[i]);
    config_errors_free(&errors);
}
#define EXPECT(yaml, ...) expect_errors(yaml, (const char *const[]){__VA_ARGS__, NULL})

static const struct {
    const char *path;
    const char *yaml;
    const char *variable; /* NULL: the environment can't set it */
    const char *value;
    const char *printed;
} settings[] = {
    {"kafka.bootstrap_servers", "kafka: {bootstrap_servers: 'a:1,[::1]:2'}", "KAFKA_BOOTSTRAP_SERVERS",
     "a:1,[::1]:2", "  bootstrap_servers: \"a:1,[::1]:2\"\n"},
    {"kafka.usage_topics", "kafka: {usage_topics: [u.1, u_2]}", "KAFKA_USAGE_TOPICS", "u.1, u_2",
     "  usage_topics: [u.1, u_2]\n"},
    {"kafka.enforcement_topic", "kafka: {enforcement_topic: flags}", "KAFKA_ENFORCEMENT_TOPIC", "flags",
     "  enforcement_topic: \"flags\"\n"},
    {"kafka.dead_letter_topic", "kafka: {dead_letter_topic: dead}", "KAFKA_DEAD_LETTER_TOPIC", "dead",
     "  dead_letter_topic: \"dead\"\n"},
    {"kafka.group", "kafka: {group: \"meters \\\"2\\\"\"}", "KAFKA_GROUP", "meters \"2\"",
     "  group: \"meters \\\"2\\\"\"\n"},
    {"kafka.partitioner", "kafka: {partitioner: fnv1a}", "KAFKA_PARTITIONER", "fnv1a",
     "  partitioner: fnv1a\n"},
    {"kafka.properties", "kafka: {properties: {fetch.min.bytes: 7}}", "KAFKA_PROPERTIES_FETCH_MIN_BYTES", "7",
     "    fetch.min.bytes: \"7\"\n"},
    {"postgres.dsn", "postgres: {dsn: host=db}", "POSTGRES_DSN", "host=db", "  dsn: \"host='db'\"\n"},
    {"postgres.owner_dsn", "postgres: {owner_dsn: 'postgresql://o@db'}", "POSTGRES_OWNER_DSN",
     "postgresql://o@db", "  owner_dsn: \"user='o' host='db'\"\n"},
    {"events.max_age", "events: {max_age: 90d}", "EVENTS_MAX_AGE", "90d", "  max_age: 90d\n"},
    {"events.max_future", "events: {max_future: 0s}", "EVENTS_MAX_FUTURE", "0s", "  max_future: 0s\n"},
    {"dedupe.window", "dedupe: {window: 25h}", "DEDUPE_WINDOW", "25h", "  window: 25h\n"},
    {"dedupe.memory_limit", "dedupe: {memory_limit: 1536MiB}", "DEDUPE_MEMORY_LIMIT", "1536MiB",
     "  memory_limit: 1536MiB\n"},
    {"batch.max_rows", "batch: {max_rows: 1}", "BATCH_MAX_ROWS", "1", "  max_rows: 1\n"},
    {"batch.max_delay", "batch: {max_delay: 250ms}", "BATCH_MAX_DELAY", "250ms", "  max_delay: 250ms\n"},
    {"rollup.dimensions", "rollup: {dimensions: [agent_id, provider]}", "ROLLUP_DIMENSIONS",
     "agent_id,provider", "  dimensions: [agent_id, provider]\n"},
    {"rollup.runs", "rollup: {runs: false}", "ROLLUP_RUNS", "false", "  runs: false\n"},
    {"ceilings",
     "ceilings: [{name: n, customer: c, meter: m, period: day, limit: '0.5', policy: alert, clear_level: "
     "0.25}]",
     NULL, NULL,
     "  - {name: \"n\", customer: \"c\", scope: customer, meter: \"m\", period: day, limit: 0.5, policy: "
     "alert, "
     "clear_level: 0.25}\n"},
    {"http.listen", "http: {listen: '[::]:80'}", "HTTP_LISTEN", "[::]:80", "  listen: \"[::]:80\"\n"},
    {"log.format", "log: {format: json}", "LOG_FORMAT", "json", "  format: json\n"},
    {"log.level", "log: {level: debug}", "LOG_LEVEL", "debug", "  level: debug\n"},
};

START_TEST(every_key_is_among_these_tests)
{
    size_t keys = 0;
    for (; config_keys[keys].path; keys++)
        ck_assert_str_eq(config_keys[keys].path, settings[keys].path);
    ck_assert_uint_eq(keys, COUNT(settings));
}
END_TEST

START_TEST(every_key_can_be_set_in_the_file)
{
    char *text = printed(settings[_i].yaml);
    ck_assert_msg(strstr(text, settings[_i].printed) != NULL, "%s", text);
    free(text);
}
END_TEST

START_TEST(every_value_can_be_overridden_by_the_environment)
{
    char name[128];
    if (!settings[_i].variable)
        return;
    snprintf(name, sizeof name, "USAGEBOX_%s", settings[_i].variable);
    setenv(name, settings[_i].value, 1);
    char *text = printed("log:\n");
    ck_assert_msg(strstr(text, settings[_i].printed) != NULL, "%s", text);
    free(text);
}
END_TEST

START_TEST(every_value_can_come_from_a_file_that_the_environment_names)
{
    char name[128], secret[] = "/tmp/usagebox-secret-XXXXXX";
    if (!settings[_i].variable)
        return;
    int file = mkstemp(secret);
    dprintf(file, "%s\n", settings[_i].value);
    close(file);
    snprintf(name, sizeof name, "USAGEBOX_%s_FILE", settings[_i].variable);
    setenv(name, secret, 1);
    char *text = printed("");
    unlink(secret);
    ck_assert_msg(strstr(text, settings[_i].printed) != NULL, "%s", text);
    free(text);
}
END_TEST

START_TEST(what_is_printed_says_the_same_when_it_is_read)
{
    char *once = printed(settings[_i].yaml);
    char *twice = printed(once);
    ck_assert_str_eq(once, twice);
    free(once);
    free(twice);
}
END_TEST

static const struct {
    const char *yaml;
    const char *error;
} malformed[] = {
    {"kafka:\n  bootstrap_servers: kafka\n",
     ":2:22: kafka.bootstrap_servers: expected host:port, several joined by "
     "commas, such as kafka-1:9092,kafka-2:9092, found \"kafka\""},
    {"kafka:\n  usage_topics: usage\n",
     ":2:17: kafka.usage_topics: expected a list of topics' names such as [usage], found \"usage\""},
    {"kafka:\n  usage_topics: [a, b/c]\n",
     ":2:21: kafka.usage_topics: expected a list of topics' names such as [usage], found \"b/c\""},
    {"kafka:\n  usage_topics: []\n", ":2:17: kafka.usage_topics: expected at least one"},
    {"kafka:\n  usage_topics: [a, b, a]\n", ":2:17: kafka.usage_topics: a is listed twice"},
    {"kafka:\n  enforcement_topic: 'a b'\n",
     ":2:22: kafka.enforcement_topic: expected a topic's name such as usage, found \"a b\""},
    {"kafka:\n  enforcement_topic: usage\n",
     ":2:22: kafka.enforcement_topic: usage is one of kafka.usage_topics too"},
    {"kafka:\n  dead_letter_topic: ..\n",
     ":2:22: kafka.dead_letter_topic: expected a topic's name such as usage, found \"..\""},
    {"kafka:\n  dead_letter_topic: usage\n",
     ":2:22: kafka.dead_letter_topic: usage is one of kafka.usage_topics too"},
    {"kafka:\n  dead_letter_topic: enforcement\n",
     ":2:22: kafka.dead_letter_topic: enforcement is kafka.enforcement_topic too"},
    {"kafka:\n  group:\n", ":2:9: kafka.group: expected text such as usagebox, found nothing"},
    {"kafka:\n  group: {a: b}\n", ":2:10: kafka.group: expected text such as usagebox, found a map"},
    {"kafka:\n  group: \"a\\0b\"\n", ":2:10: kafka.group: expected text such as usagebox, found \"a\\x00b\""},
    {"kafka:\n  partitioner: murmur\n",
     ":2:16: kafka.partitioner: expected one of auto, murmur2, crc32, fnv1a, found \"murmur\""},
    {"kafka:\n  properties: [a]\n",
     ":2:15: kafka.properties: expected a map such as {security.protocol: SSL}, found a list"},
    {"kafka:\n  properties: {a: b}\n", ":2:19: kafka.properties.a: librdkafka has no property of this name"},
    {"kafka:\n  properties: {fetch.min.bytes: [b]}\n",
     ":2:33: kafka.properties.fetch.min.bytes: expected text, found a list"},
    {"kafka:\n  properties: {group.id: b}\n",
     ":2:26: kafka.properties.group.id: not to be set here: use kafka.group"},
    {"kafka:\n  properties: {check.crcs: false}\n",
     ":2:28: kafka.properties.check.crcs: not to be set: exactly-once rests on how usagebox sets it"},
    {"postgres:\n  dsn: 'host=db password=geheim port'\n",
     ":2:8: postgres.dsn: expected a PostgreSQL connection string such as "
     "postgresql://usagebox@db.example/usagebox, "
     "found something else"},
    {"postgres:\n  owner_dsn: [a]\n",
     ":2:14: postgres.owner_dsn: expected a PostgreSQL connection string such as "
     "postgresql://usagebox@db.example/usagebox, found a list"},
    {"events:\n  max_age: 400\n", ":2:12: events.max_age: expected a duration such as 25h, found \"400\""},
    {"events:\n  max_age: 3651d\n",
     ":2:12: events.max_age: expected a duration from 1s to 3650d, found \"3651d\""},
    {"events:\n  max_future: -1s\n",
     ":2:15: events.max_future: expected a duration such as 25h, found \"-1s\""},
    {"dedupe:\n  window: soon\n", ":2:11: dedupe.window: expected a duration such as 25h, found \"soon\""},
    {"dedupe:\n  window: 99999999999999999999d\n",
     ":2:11: dedupe.window: expected a duration such as 25h, found \"99999999999999999999d\""},
    {"dedupe:\n  memory_limit: 4GB\n",
     ":2:17: dedupe.memory_limit: expected a size such as 4GiB, found \"4GB\""},
    {"dedupe:\n  memory_limit: 1KiB\n",
     ":2:17: dedupe.memory_limit: expected a size from 1MiB to 1024GiB, found \"1KiB\""},
    {"batch:\n  max_rows: 1e6\n", ":2:13: batch.max_rows: expected an integer such as 250000, found \"1e6\""},
    {"batch:\n  max_rows: 0\n", ":2:13: batch.max_rows: expected an integer from 1 to 10000000, found \"0\""},
    {"batch:\n  max_delay: 2m\n", ":2:14: batch.max_delay: expected a duration from 1ms to 1m, found \"2m\""},
    {"rollup:\n  dimensions: [agent]\n",
     ":2:16: rollup.dimensions: expected a list out of provider, service_tier, gpu_type, agent_id, run_id, "
     "parent_run_id, user_id, operation, tool_name, context_window, found \"agent\""},
    {"rollup:\n  dimensions: [user_id, user_id]\n", ":2:15: rollup.dimensions: user_id is listed twice"},
    {"rollup:\n  dimensions: [provider, service_tier, gpu_type, agent_id, run_id, user_id, operation, "
     "tool_name]\n",
     ":2:15: rollup.dimensions: expected at most 7 fields, found 8"},
    {"rollup:\n  runs: yes\n", ":2:9: rollup.runs: expected true or false, found \"yes\""},
    {"http:\n  listen: 9464\n",
     ":2:11: http.listen: expected host:port such as 127.0.0.1:9464, found \"9464\""},
    {"http:\n  listen: h:65536\n",
     ":2:11: http.listen: expected host:port such as 127.0.0.1:9464, found \"h:65536\""},
    {"log:\n  format: xml\n", ":2:11: log.format: expected one of logfmt, json, found \"xml\""},
    {"log:\n  level: warn\n",
     ":2:10: log.level: expected one of debug, info, warning, error, found \"warn\""},
    {"ceilings: {}\n",
     ":1:11: ceilings: expected a list of maps such as [{name: …, customer: …}], found a map"},
    {"ceilings: [a]\n", ":1:12: ceilings: expected a map such as {name: …, customer: …}"},
    {"- kafka\n", ":1:1: expected a map of settings, such as kafka:"},
    {"kafka: here\n", ":1:8: kafka: expected a map of settings"},
    {"kafka: {}\nhtpp: {}\n", ":2:1: htpp: unknown key, did you mean http?"},
    {"dedupe: {windw: 1h}\n", ":1:10: dedupe.windw: unknown key, did you mean window?"},
    {"entirely_wrong: 1\n", ":1:1: entirely_wrong: unknown key"},
    {"dedupe.window: 1h\n", ":1:1: dedupe.window: write it nested: the first part as a map"},
    {"log: {}\nhttp: {}\nlog: {}\n", ":3:1: log: is given twice, first in line 1"},
    {"log:\n  level: info\n  level: info\n", ":3:3: log.level: is given twice, first in line 2"},
    {"kafka: {properties: {fetch.min.bytes: 1, fetch.min.bytes: 1}}\n",
     ":1:42: kafka.properties.fetch.min.bytes: is given twice, first in line 1"},
    {"kafka: [1\n", ":2:1: not valid YAML: while parsing a flow sequence, did not find expected ',' or ']'"},
    {"kafka:\n\tgroup: a\n",
     ":2:1: not valid YAML: while scanning for the next token, found character that cannot start any token"},
    {"kafka:\n  group: a\xff\n", ":2:11: not valid YAML: invalid leading UTF-8 octet"},
    {"kafka: &a {}\n", ":1:8: anchors, aliases and tags are not taken here"},
    {"kafka: *a\n", ":1:8: anchors, aliases and tags are not taken here"},
    {"kafka: !x {}\n", ":1:8: anchors, aliases and tags are not taken here"},
    {"{[a]: b}\n", ":1:2: a key must be a plain word"},
    {"kafka: {}\n---\nkafka: {}\n", ":2:1: a second document: expected only one"},
    {"[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]\n", ":1:17: nested too deep"},
};

START_TEST(what_is_malformed_is_refused_with_its_line_and_column)
{
    EXPECT(malformed[_i].yaml, malformed[_i].error);
}
END_TEST

#define CEILING(text) "ceilings:\n  - {" text "}\n"
#define REST "meter: m, period: day, limit: 1, policy: alert"
static const struct {
    const char *yaml;
    const char *error;
} malformed_ceilings[] = {
    {CEILING("customer: c, " REST), ":2:5: ceilings.name: is missing"},
    {CEILING("name: '', customer: c, " REST),
     ":2:12: ceilings.name: expected 1 to 128 bytes such as pro-monthly-output, found nothing"},
    {CEILING("name: n, " REST), ":2:5: ceilings: expected either customer or plan, found neither"},
    {CEILING("name: n, customer: '', " REST),
     ":2:5: ceilings: expected either customer or plan, found neither"},
    {CEILING("name: n, customer: c, plan: p, " REST),
     ":2:5: ceilings: expected either customer or plan, found both"},
    {CEILING("name: n, customer: \"a\\e\", " REST),
     ":2:25: ceilings.customer: expected 1 to 128 bytes such as pro-monthly-output, found \"a\\x1b\""},
    {CEILING("name: n, plan: [p], " REST),
     ":2:21: ceilings.plan: expected 1 to 128 bytes such as pro-monthly-output, found a list"},
    {CEILING("name: n, plan: p, scope: user, " REST),
     ":2:31: ceilings.scope: expected one of customer, found \"user\""},
    {CEILING("name: n, plan: p, period: day, limit: 1, policy: alert"), ":2:5: ceilings.meter: is missing"},
    {CEILING("name: n, plan: p, meter: a b, period: day, limit: 1, policy: alert"),
     ":2:31: ceilings.meter: expected a meter, 1 to 64 of A-Z a-z 0-9 . _ -, such as llm_tokens_out, found "
     "\"a b\""},
    {CEILING("name: n, plan: p, meter: m, period: year, limit: 1, policy: alert"),
     ":2:42: ceilings.period: expected one of hour, day, month, found \"year\""},
    {CEILING("name: n, plan: p, meter: m, period: day, limit: -1, policy: alert"),
     ":2:54: ceilings.limit: expected a number from 0 on with up to 9 digits after the point, such as "
     "1000000, found "
     "\"-1\""},
    {CEILING("name: n, plan: p, meter: m, period: day, limit: 0.0000000001, policy: alert"),
     ":2:54: ceilings.limit: expected a number from 0 on with up to 9 digits after the point, such as "
     "1000000, found "
     "\"0.0000000001\""},
    {CEILING("name: n, plan: p, meter: m, period: day, limit: 1, policy: throttle"),
     ":2:65: ceilings.policy: expected one of alert, hard-stop, found \"throttle\""},
    {CEILING("name: n, plan: p, " REST ", clear_level: 2"),
     ":2:5: ceilings.clear_level: expected at most the limit"},
    {CEILING("name: n, plan: p, " REST ", colour: 2"), ":2:72: ceilings.colour: unknown key"},
    {CEILING("name: n, plan: p, " REST "}\n  - {name: n, plan: p, " REST),
     ":3:5: ceilings.name: n names another ceiling already"},
};

START_TEST(a_malformed_ceiling_is_refused_with_its_line_and_column)
{
    EXPECT(malformed_ceilings[_i].yaml, malformed_ceilings[_i].error);
}
END_TEST

START_TEST(all_errors_are_reported_in_the_order_of_the_file)
{
    setenv("USAGEBOX_BATCH_MAX_ROWS", "many", 1);
    EXPECT("log: {level: loud}\nkafka:\n  enforcement_topic: usage\nbatch: {max_delay: 2m}\n",
           ":1:14: log.level: expected one of debug, info, warning, error, found \"loud\"",
           ":3:22: kafka.enforcement_topic: usage is one of kafka.usage_topics too",
           ":4:20: batch.max_delay: expected a duration from 1ms to 1m, found \"2m\"",
           "USAGEBOX_BATCH_MAX_ROWS: batch.max_rows: expected an integer such as 250000, found \"many\"");
}
END_TEST

START_TEST(errors_end_before_they_become_endless)
{
    char *yaml = calloc(1, 1 << 20);
    for (int i = 0; i < 50000; i++)
        strcpy(yaml + 10 * i, "nothing: 1\n" + 1); /* "othing: 1\n" */
    struct config config;
    struct config_errors errors = {0};
    ck_assert(!config_load(write_file(yaml), &config, &errors));
    remove_file();
    ck_assert_uint_le(errors.count, CONFIG_ERRORS_LIMIT);
    config_errors_free(&errors);
    free(yaml);
}
END_TEST

START_TEST(errors_of_the_environment_name_the_variable)
{
    setenv("USAGEBOX_DEDUPE_WINDOW", "soon", 1);
    EXPECT("", "USAGEBOX_DEDUPE_WINDOW: dedupe.window: expected a duration such as 25h, found \"soon\"");
    unsetenv("USAGEBOX_DEDUPE_WINDOW");
    setenv("USAGEBOX_POSTGRES_DSN_FILE", "/nowhere", 1);
    EXPECT("",
           "USAGEBOX_POSTGRES_DSN_FILE: postgres.dsn: can't read \"/nowhere\": No such file or directory");
    setenv("USAGEBOX_POSTGRES_DSN", "host=a", 1);
    EXPECT(
        "",
        "USAGEBOX_POSTGRES_DSN_FILE: postgres.dsn: USAGEBOX_POSTGRES_DSN is set as well: unset one of them");
    unsetenv("USAGEBOX_POSTGRES_DSN");
    unsetenv("USAGEBOX_POSTGRES_DSN_FILE");
    setenv("USAGEBOX_KAFKA_PROPERTIES_ISOLATION_LEVEL", "read_uncommitted", 1);
    EXPECT("", "USAGEBOX_KAFKA_PROPERTIES_ISOLATION_LEVEL: kafka.properties.isolation.level: not to be set: "
               "exactly-once rests on how usagebox sets it");
    unsetenv("USAGEBOX_KAFKA_PROPERTIES_ISOLATION_LEVEL");
    setenv("USAGEBOX_KAFKA_ENFORCEMENT_TOPIC", "usage", 1);
    EXPECT(
        "",
        "USAGEBOX_KAFKA_ENFORCEMENT_TOPIC: kafka.enforcement_topic: usage is one of kafka.usage_topics too");
}
END_TEST

START_TEST(the_environment_wins_over_the_file)
{
    setenv("USAGEBOX_KAFKA_PROPERTIES_FETCH_MIN_BYTES", "9", 1);
    setenv("USAGEBOX_KAFKA_DEAD_LETTER_TOPIC", "", 1);
    struct config config = load("kafka: {properties: {fetch.min.bytes: 8}, dead_letter_topic: d}");
    ck_assert_uint_eq(config.kafka.properties.count, 1);
    ck_assert_str_eq(config.kafka.properties.items[0].value, "9");
    ck_assert_str_eq(config.kafka.dead_letter_topic, "");
    config_free(&config);
}
END_TEST

START_TEST(no_secret_is_printed)
{
    setenv("USAGEBOX_KAFKA_PROPERTIES_SASL_PASSWORD", "geheim", 1);
    char *text = printed("kafka: {properties: {ssl.key.password: geheim, ssl.key.pem: geheim,\n"
                         "  sasl.oauthbearer.config: geheim}}\n"
                         "postgres: {dsn: 'postgresql://u:geheim@h/d?sslpassword=geheim',\n"
                         "  owner_dsn: \"host=h password='geheim geheim'\"}");
    ck_assert_msg(strstr(text, "geheim") == NULL, "%s", text);
    ck_assert(strstr(text, "user='u' password='****' dbname='d' host='h' sslpassword='****'") != NULL);
    ck_assert(strstr(text, "sasl.password: \"****\"") != NULL);
    free(text);
}
END_TEST

START_TEST(no_secret_stands_in_an_error)
{
    struct config config;
    struct config_errors errors = {0};
    setenv("USAGEBOX_POSTGRES_OWNER_DSN", "postgresql://u:geheim@[h", 1);
    setenv("USAGEBOX_KAFKA_PROPERTIES_SASL_PASSWORD", "geheim\n\n", 1);
    ck_assert(!config_load(write_file("postgres: {dsn: 'password=geheim host'}"), &config, &errors));
    remove_file();
    ck_assert_uint_eq(errors.count, 3);
    for (size_t i = 0; i < errors.count; i++)
        ck_assert_msg(strstr(errors.items[i], "geheim") == NULL, "%s", errors.items[i]);
    config_errors_free(&errors);
}
END_TEST

START_TEST(an_unparseable_connection_string_is_redacted_whole)
{
    char *redacted = config_dsn_redacted("password=geheim host");
    ck_assert_str_eq(redacted, "****");
    free(redacted);
}
END_TEST

static void check_default_fields(const struct config *config)
{
    const int64_t hour_us = INT64_C(3600000000);
    ck_assert_str_eq(config->kafka.bootstrap_servers, "127.0.0.1:9092");
    ck_assert_uint_eq(config->kafka.usage_topics.count, 1);
    ck_assert_str_eq(config->kafka.usage_topics.items[0], "usage");
    ck_assert_str_eq(config->kafka.dead_letter_topic, "");
    ck_assert_int_eq(config->kafka.partitioner, PARTITIONER_UNKNOWN);
    ck_assert_uint_eq(config->kafka.properties.count, 0);
    ck_assert_str_eq(config->postgres.owner_dsn, config->postgres.dsn);
    ck_assert_int_eq(config->events.max_age_us, 400 * 24 * hour_us);
    ck_assert_int_eq(config->events.max_future_us, hour_us / 12);
    ck_assert_int_eq(config->dedupe.window_us, 24 * hour_us);
    ck_assert_int_eq(config->dedupe.memory_limit_bytes, INT64_C(4) << 30);
    ck_assert_int_eq(config->batch.max_rows, 250000);
    ck_assert_int_eq(config->batch.max_delay_us, 1000000);
    ck_assert_uint_eq(config->rollup.dimensions.count, 0);
    ck_assert(config->rollup.runs);
    ck_assert_str_eq(config->http.listen, "127.0.0.1:9464");
    ck_assert_int_eq(config->log.format, LOG_LOGFMT);
    ck_assert_int_eq(config->log.level, LOG_INFO);
}

START_TEST(an_empty_file_gives_the_defaults)
{
    struct config config = load("");
    check_default_fields(&config);
    ck_assert_uint_eq(config.ceilings.count, 0);
    ck_assert_str_eq(config.path, path);
    config_free(&config);
}
END_TEST

START_TEST(the_config_yaml_of_the_house_holds_every_key_with_its_default)
{
    struct config config;
    struct config_errors errors = {0};
    ck_assert_msg(config_load(NULL, &config, &errors), "%s", errors.count > 0 ? errors.items[0] : "");
    ck_assert_str_eq(config.path, "config.yaml");
    check_default_fields(&config);
    config_free(&config);
    struct arena arena;
    arena_init(&arena, 65536);
    struct text text = file_read("config.yaml", TREE_FILE_LIMIT_BYTES, &arena);
    ck_assert_ptr_nonnull(text.bytes);
    for (const struct config_key *key = config_keys; key->path; key++) {
        char line[64];
        const char *dot = strchr(key->path, '.');
        snprintf(line, sizeof line, dot ? "\n  %s:" : "\n%s:", dot ? dot + 1 : key->path);
        ck_assert_msg(strstr(text.bytes, line) != NULL, "config.yaml lacks %s", key->path);
    }
    arena_free(&arena);
}
END_TEST

START_TEST(the_example_ceilings_are_what_they_say)
{
    struct config config;
    struct config_errors errors = {0};
    ck_assert(config_load("config.yaml", &config, &errors));
    ck_assert_uint_eq(config.ceilings.count, 2);
    const struct ceiling *plan = &config.ceilings.items[0], *everyone = &config.ceilings.items[1];
    ck_assert(text_equal(plan->name, TEXT("pro-monthly-output")));
    ck_assert_int_eq(plan->who_kind, WHO_PLAN);
    ck_assert(text_equal(plan->who, TEXT("pro")));
    ck_assert_int_eq(plan->period, PERIOD_MONTH);
    ck_assert_int_eq(plan->policy, POLICY_HARD_STOP);
    ck_assert(plan->limit == 1000000 * DECIMAL_ONE && plan->clear_level == plan->limit);
    ck_assert_int_eq(everyone->who_kind, WHO_EVERYONE);
    ck_assert_uint_eq(everyone->who.length, 0);
    ck_assert_int_eq(everyone->policy, POLICY_ALERT);
    ck_assert(everyone->clear_level == 9000 * DECIMAL_ONE);
    config_free(&config);
}
END_TEST

START_TEST(a_missing_file_says_so)
{
    struct config config;
    struct config_errors errors = {0};
    ck_assert(!config_load("/nowhere/config.yaml", &config, &errors));
    ck_assert_str_eq(errors.items[0], "/nowhere/config.yaml: No such file or directory");
    config_errors_free(&errors);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert(!config_load(NULL, &config, &errors));
    ck_assert_str_eq(
        errors.items[0],
        "config.yaml: no such file, nor /etc/usagebox/config.yaml: write one, or name one with -c");
    config_errors_free(&errors);
}
END_TEST

START_TEST(the_reference_names_every_key_and_its_variable)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    config_document(out);
    fclose(out);
    for (const struct config_key *key = config_keys; key->path; key++)
        ck_assert_ptr_nonnull(strstr(text, key->help));
    for (const struct config_key *key = config_ceiling_keys; key->path; key++)
        ck_assert_ptr_nonnull(strstr(text, key->help));
    ck_assert_ptr_nonnull(strstr(text, "USAGEBOX_DEDUPE_WINDOW"));
    free(text);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, every_key_is_among_these_tests);
    tcase_add_loop_test(tests, every_key_can_be_set_in_the_file, 0, COUNT(settings));
    tcase_add_loop_test(tests, every_value_can_be_overridden_by_the_environment, 0, COUNT(settings));
    tcase_add_loop_test(tests, every_value_can_come_from_a_file_that_the_environment_names, 0,
                        COUNT(settings));
    tcase_add_loop_test(tests, what_is_printed_says_the_same_when_it_is_read, 0, COUNT(settings));
    tcase_add_loop_test(tests, what_is_malformed_is_refused_with_its_line_and_column, 0, COUNT(malformed));
    tcase_add_loop_test(tests, a_malformed_ceiling_is_refused_with_its_line_and_column, 0,
                        COUNT(malformed_ceilings));
    tcase_add_test(tests, all_errors_are_reported_in_the_order_of_the_file);
    tcase_add_test(tests, errors_end_before_they_become_endless);
    tcase_add_test(tests, errors_of_the_environment_name_the_variable);
    tcase_add_test(tests, the_environment_wins_over_the_file);
    tcase_add_test(tests, no_secret_is_printed);
    tcase_add_test(tests, no_secret_stands_in_an_error);
    tcase_add_test(tests, an_unparseable_connection_string_is_redacted_whole);
    tcase_add_test(tests, an_empty_file_gives_the_defaults);
    tcase_add_test(tests, the_config_yaml_of_the_house_holds_every_key_with_its_default);
    tcase_add_test(tests, the_example_ceilings_are_what_they_say);
    tcase_add_test(tests, a_missing_file_says_so);
    tcase_add_test(tests, the_reference_names_every_key_and_its_variable);
}

int main(void)
{
    return run_suite("config", add_tests);
}
