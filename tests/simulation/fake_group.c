/* The consumer group: who is a member, who gets which lanes. */
#include "world.h"

/* Range: lanes in order over the members in order; eager: everybody gives up everything first. */
void sim_group_rebalance(struct world *world)
{
    for (int i = 0; i < world->process_count; i++) {
        struct process *process = &world->processes[i];
        if (!process->source.member)
            continue;
        process->source.revoke_due = true;
        process->source.assign_due = true;
    }
}

/* Those that read the topic. */
static int members(const struct world *world, int topic, const struct process *self, int *rank)
{
    int count = 0;
    for (int i = 0; i < world->process_count; i++) {
        if (&world->processes[i] == self)
            *rank = count;
        count += world->processes[i].source.member && topic < world->processes[i].topic_count;
    }
    return count;
}

static bool everybody_released(const struct world *world)
{
    for (int i = 0; i < world->process_count; i++)
        if (world->processes[i].source.member &&
            (world->processes[i].source.revoke_due || world->processes[i].source.rebalancing))
            return false;
    return true;
}

/* Returns how many partitions are listed now. */
static size_t assign_topic(struct process *process, int topic, size_t listed)
{
    struct world *world = process->world;
    struct sim_source *source = &process->source;
    int rank = 0, count = members(world, topic, process, &rank);
    int share = world->partition_count / count, more = world->partition_count % count;
    int first = rank * share + (rank < more ? rank : more);
    int last = first + share + (rank < more);
    for (int i = first; i < last; i++) {
        source->assigned[i] = true;
        source->assigned_list[listed++] = (struct source_position){(uint32_t)topic, i, 0};
    }
    world_trace(world, "process %d is assigned %d..%d of %s", process->number, first, last - 1,
                world_topics[topic]);
    return listed;
}

static void assign(struct process *process, struct source_event *event)
{
    struct sim_source *source = &process->source;
    size_t listed = 0;
    for (int topic = 0; topic < process->topic_count; topic++)
        listed = assign_topic(process, topic, listed);
    source->assign_due = false;
    *event = (struct source_event){
        .kind = SOURCE_ASSIGNED, .assigned = source->assigned_list, .assigned_count = listed};
}

static bool any_assigned(const struct sim_source *source)
{
    for (int i = 0; i < WORLD_PARTITIONS; i++)
        if (source->assigned[i])
            return true;
    return false;
}

/* It was thrown out, went on for a while, and hears of it now. */
static bool wake_zombie(struct process *process, struct source_event *event)
{
    struct sim_source *source = &process->source;
    if (source->zombie_polls-- > 0)
        return false;
    source->evicted = false;
    source->rebalancing = true;
    source->member = true;
    *event = (struct source_event){.kind = SOURCE_REVOKED, .lost = true};
    sim_group_rebalance(process->world);
    source->revoke_due = false;
    return true;
}

bool sim_group_event(struct process *process, struct source_event *event)
{
    struct sim_source *source = &process->source;
    if (source->evicted)
        return wake_zombie(process, event);
    if (source->revoke_due && !any_assigned(source)) {
        source->revoke_due = false;
    } else if (source->revoke_due) {
        source->revoke_due = false;
        source->rebalancing = true;
        *event = (struct source_event){.kind = SOURCE_REVOKED};
        return true;
    }
    if (!source->assign_due || source->rebalancing || !everybody_released(process->world))
        return false;
    assign(process, event);
    return true;
}
