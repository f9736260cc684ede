/* The dedupe table against a plain array: operations from bytes, on keys chosen so that shards fill up and
 * homes collide. The input's first byte says among how many shards the keys are spread. */
#include "fuzz.h"

#include "tests/unit/dedupe_keys.h"

enum { KEYS = 1024, KEYS_OF_ONE_HOME = 256, DAYS = 8, RUN = 64 };
enum operation { INSERT, INSERT_RUN, REMOVE, FORGET, SWEEP, SWEEP_ALL, RESTORE, OPERATIONS };

struct model {
    struct {
        uint16_t day; /* 0: not there */
        uint32_t content;
    } keys[KEYS];
    size_t count;
    size_t day_count[DAYS];
    uint32_t shards; /* 0: all keys have one home */
    uint32_t key_count;
};

static struct dedupe_key key_number(const struct model *model, uint32_t number)
{
    if (model->shards == 0)
        return (struct dedupe_key){.low = (uint64_t)number << 40 | number, .high = UINT64_MAX};
    return key_in(number, model->shards);
}

static enum dedupe_verdict model_insert(struct model *model, uint32_t number, uint32_t content, uint16_t day)
{
    if (model->keys[number].day != 0)
        return model->keys[number].content == content ? DEDUPE_REPEAT : DEDUPE_CONFLICT;
    model->keys[number].day = day;
    model->keys[number].content = content;
    model->count++;
    model->day_count[day - DAY]++;
    return DEDUPE_NEW;
}

static bool model_remove(struct model *model, uint32_t number)
{
    if (model->keys[number].day == 0)
        return false;
    model->day_count[model->keys[number].day - DAY]--;
    model->count--;
    model->keys[number].day = 0;
    return true;
}

static void model_forget(struct model *model, uint16_t day)
{
    for (uint32_t number = 0; number < model->key_count; number++)
        if (model->keys[number].day == day)
            model_remove(model, number);
}

static void insert(struct dedupe *dedupe, struct model *model, uint32_t number, uint32_t content,
                   uint16_t day)
{
    enum dedupe_verdict right = model_insert(model, number, content, day);
    enum dedupe_verdict verdict = dedupe_insert(dedupe, key_number(model, number), content, day);
    FUZZ_CHECK(verdict == right, "key %u on day %u: %d instead of %d", number, day, verdict, right);
}

static void restore(struct dedupe *dedupe, struct model *model, uint32_t first, uint32_t content,
                    uint16_t day)
{
    uint8_t segment[RUN * DEDUPE_SEGMENT_BYTES];
    for (uint32_t i = 0; i < RUN; i++) {
        uint32_t number = (first + i) % model->key_count;
        dedupe_segment_put(segment + i * DEDUPE_SEGMENT_BYTES, key_number(model, number), content);
        model_insert(model, number, content, day);
    }
    FUZZ_CHECK(dedupe_segment_restore(dedupe, day, segment, sizeof segment), "a segment is refused");
    FUZZ_CHECK(!dedupe_segment_restore(dedupe, day, segment, sizeof segment - 1), "a torn one is taken");
}

static void operate(struct dedupe *dedupe, struct model *model, struct fuzz_bytes *bytes)
{
    enum operation operation = (enum operation)(fuzz_take(bytes, 1) % OPERATIONS);
    uint32_t number = fuzz_take(bytes, 2) % model->key_count;
    uint32_t how = fuzz_take(bytes, 1);
    uint16_t day = (uint16_t)(DAY + how % DAYS);
    uint32_t content = how / DAYS % 4;
    switch (operation) {
    case INSERT:
        insert(dedupe, model, number, content, day);
        break;
    case INSERT_RUN:
        for (uint32_t i = 0; i < RUN; i++)
            insert(dedupe, model, (number + i) % model->key_count, content, day);
        break;
    case REMOVE: {
        bool there = model_remove(model, number);
        FUZZ_CHECK(dedupe_remove(dedupe, key_number(model, number)) == there, "remove key %u", number);
        break;
    }
    case FORGET:
        model_forget(model, day);
        dedupe_forget(dedupe, day);
        break;
    case SWEEP:
        dedupe_sweep(dedupe);
        break;
    case SWEEP_ALL:
        sweep_all(dedupe);
        break;
    default:
        restore(dedupe, model, number, content, day);
    }
    FUZZ_CHECK(dedupe_count(dedupe) == model->count, "%zu keys instead of %zu", dedupe_count(dedupe),
               model->count);
}

/* What is there is a repeat or a conflict, what isn't is new. */
static void check_all(struct dedupe *dedupe, struct model *model)
{
    for (uint16_t day = DAY; day < DAY + DAYS; day++)
        FUZZ_CHECK(dedupe_day_count(dedupe, day) == model->day_count[day - DAY], "day %u", day);
    for (uint32_t number = 0; number < model->key_count; number++)
        insert(dedupe, model, number, 1, DAY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model model;
    static const uint32_t spreads[] = {0, 1, 2, 16, 4096};
    struct fuzz_bytes bytes = {data, size};
    struct dedupe *dedupe = dedupe_new();
    model = (struct model){.shards = spreads[fuzz_take(&bytes, 1) % (sizeof spreads / sizeof *spreads)]};
    model.key_count = model.shards == 0 ? KEYS_OF_ONE_HOME : KEYS;
    while (bytes.left > 0)
        operate(dedupe, &model, &bytes);
    check_all(dedupe, &model);
    dedupe_free(dedupe);
    return 0;
}
