/* The enforcement topic: one log per lane, acknowledged with delay, read from its start by whoever tails it.
 */
#include "world.h"

#include <stdlib.h>

static char *copy_bytes(struct text text)
{
    char *copy = malloc(text.length + 1);
    if (!copy)
        abort();
    memcpy(copy, text.bytes, text.length);
    copy[text.length] = 0;
    return copy;
}

static bool publish(void *self, int32_t lane, struct text key, struct text value,
                    struct flag_sequence sequence, uint64_t cookie)
{
    struct process *process = self;
    struct world *world = process->world;
    struct sim_flags *log = &world->flags[lane];
    if (log->count == log->capacity) {
        log->capacity = log->capacity ? log->capacity * 2 : 64;
        log->messages = realloc(log->messages, log->capacity * sizeof *log->messages);
        if (!log->messages)
            abort();
    }
    int64_t delay_us = 1000 + (int64_t)random_below(&world->random, 4000);
    if (!world->flags_up)
        delay_us += world->flags_back_us > world->now_us ? world->flags_back_us - world->now_us : 0;
    log->messages[log->count++] = (struct sim_message){.key = copy_bytes(key),
                                                       .key_length = key.length,
                                                       .value = value.bytes ? copy_bytes(value) : NULL,
                                                       .value_length = value.length,
                                                       .sequence = sequence,
                                                       .visible_us = world->now_us};
    *(struct sim_ack *)table_add(&process->acks, sizeof(struct sim_ack)) =
        (struct sim_ack){lane, cookie, world->now_us + delay_us};
    world_trace(world, "process %d publishes to lane %d: %.*s %.*s", process->number, lane, (int)key.length,
                key.bytes, (int)value.length, value.bytes ? value.bytes : "");
    return true;
}

static bool next_ack(struct process *process, struct flag_event *event)
{
    struct sim_ack *acks = process->acks.rows;
    for (size_t i = 0; i < process->acks.count; i++) {
        if (acks[i].at_us > process->world->now_us)
            continue;
        *event = (struct flag_event){.kind = FLAG_ACKNOWLEDGED,
                                     .lane = acks[i].lane,
                                     .cookie = acks[i].cookie,
                                     .acknowledged_at_us = process->world->now_us,
                                     .acknowledged_steady_us = process->world->now_us};
        memmove(&acks[i], &acks[i + 1], (process->acks.count - i - 1) * sizeof *acks);
        process->acks.count--;
        return true;
    }
    return false;
}

static bool next_seen(struct process *process, int32_t lane, struct flag_event *event)
{
    struct sim_tail *tail = &process->tails[lane];
    struct sim_flags *log = &process->world->flags[lane];
    if (!tail->on)
        return false;
    if (!tail->caught_up && tail->next >= tail->end_at_start) {
        tail->caught_up = true;
        *event = (struct flag_event){.kind = FLAG_CAUGHT_UP, .lane = lane};
        return true;
    }
    if (tail->next >= log->count)
        return false;
    const struct sim_message *message = &log->messages[tail->next++];
    *event = (struct flag_event){.kind = FLAG_SEEN,
                                 .lane = lane,
                                 .key = {message->key, message->key_length},
                                 .value = {message->value, message->value_length},
                                 .has_sequence = true,
                                 .sequence = message->sequence};
    return true;
}

static void poll(void *self, struct flag_event *event)
{
    struct process *process = self;
    event->kind = FLAG_NOTHING;
    if (next_ack(process, event))
        return;
    for (int32_t lane = 0; lane < process->world->partition_count; lane++)
        if (next_seen(process, lane, event))
            return;
}

static void tail(void *self, int32_t lane)
{
    struct process *process = self;
    process->tails[lane] = (struct sim_tail){.on = true, .end_at_start = process->world->flags[lane].count};
}

static void untail(void *self, int32_t lane)
{
    ((struct process *)self)->tails[lane].on = false;
}

struct flag_sink sim_flag_port(struct process *process)
{
    memset(process->tails, 0, sizeof process->tails);
    process->acks.count = 0;
    return (struct flag_sink){publish, poll, tail, untail, process};
}

void sim_flags_free(struct world *world)
{
    for (int i = 0; i < WORLD_PARTITIONS; i++) {
        for (size_t m = 0; m < world->flags[i].count; m++) {
            free(world->flags[i].messages[m].key);
            free(world->flags[i].messages[m].value);
        }
        free(world->flags[i].messages);
    }
}
