/* A whole deployment in one thread: brokers, PostgreSQL and several usagebox processes, all made of memory
 * and moved by one clock and one stream of random numbers, so that a seed replays a run byte for byte. */
#ifndef UB_WORLD_H
#define UB_WORLD_H

#include "world_state.h"

void world_trace(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_mix(struct world *world, uint64_t value);
void world_fail(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A time that lies up to spread_us ahead. */
int64_t world_soon(struct world *world, int64_t spread_us);
void *world_keep(struct world *world, const void *bytes, size_t size); /* a copy that lives as long */

extern const char *const world_topics[WORLD_TOPICS];
extern const char *const world_meters[WORLD_METERS];
const struct identity_secret *world_secret(void);

/* producers.c */
void produce(struct world *world);
void produce_aborted(struct world *world); /* a transaction of several records that is aborted */

/* process.c */
void process_start(struct process *process);
void process_kill(struct process *process);
void process_drain(struct process *process);
void process_turn(struct process *process);
bool process_runs(const struct process *process, int32_t lane);
bool process_stopped(const struct process *process, int32_t lane);
int64_t process_wall_us(const struct process *process);

/* operator.c */
void operator_new_ceilings(struct world *world);
void operator_seal_day(struct world *world);
void operator_look(struct world *world); /* frees what is stopped and needs a person */
/* Sends a partition back, or forward over what is not counted then. False: not now. */
bool operator_seek(struct world *world, int topic, int partition, bool forward);
void operator_retire(struct world *world); /* sets a topic aside, if nobody has read it lately */
/* The first offset that was counted as another record than the log holds now, or the log's end if more was
 * counted than it holds; -1: none. */
int64_t operator_mismatch(const struct world *world, int topic, int partition);

/* repartition.c */
bool world_is_whole(const struct world *world); /* all partitions that there are are read */
int32_t world_lane_of(const char *customer, int32_t count);
/* Was it read once more, in the lane where its customer belonged before partitions were added? */
bool world_has_moved(const struct world *world, const struct sim_account *account);
/* What became of a record that was counted there: one in the wrong lane is a dead letter. */
enum sim_outcome world_outcome(const struct world *world, const struct sim_account *account);
bool sim_repartition_under_way(const struct sim_database *db);
void sim_repartition_look(struct world *world); /* orders one that is due, finishes one that may be */
void sim_repartition_moved(struct world *world, int topic, int partition); /* as offset_move() does */
void sim_repartition_settings(struct world *world, struct store_settings *settings);
void sim_repartition_limits(const struct sim_database *db, struct store_lane *lane,
                            struct store_lane_offset *offset);
void sim_repartition_former(const struct sim_database *db, struct store_job *job);

/* fake_kafka.c, fake_group.c */
struct source sim_source_port(struct process *process);
void sim_source_free(struct sim_source *source);
bool sim_group_event(struct process *process, struct source_event *event);
void sim_group_rebalance(struct world *world); /* membership changed */
void sim_drop_fetched(struct sim_source *source);
void sim_append(struct world *world, int topic, int partition, const struct sim_record *record);

/* fake_flags.c */
struct flag_sink sim_flag_port(struct process *process);
void sim_flags_land(struct world *world);
void sim_flags_orphan(struct process *process); /* it died: what it sent may still land */
void sim_flags_compact(struct world *world);
void sim_flags_free(struct world *world);

/* fake_store.c, fake_commit.c, fake_restore.c, fake_ceilings.c */
struct store sim_store_port(struct process *process);
void sim_store_disconnect(struct process *process); /* it died: what is under way may or may not be done */
void sim_store_end_backends(struct process *process);
bool sim_store_lag(struct world *world); /* the replica falls behind, and is promoted soon; false: it lags */
void sim_store_fail_over(struct world *world);
bool sim_store_stream(struct process *process, struct store_job *job);
void sim_store_commit(struct process *process, struct store_job *job);
void sim_store_take_lane(struct process *process, struct store_lane *lane);
void sim_store_read_settings(struct process *process, struct store_job *job);
void sim_read_sums(struct process *process, struct store_job *job);
struct ceiling_catalogue *sim_catalogue(const struct world *world); /* those in force */
struct ceiling_catalogue *sim_catalogue_of(const struct world *world, int64_t generation);

/* oracle.c, oracle_rollups.c, oracle_flags.c */
bool oracle_is_for(const struct ceiling *ceiling, const char *customer, const char *meter);
void oracle_check(struct world *world);
void oracle_check_rollups(struct world *world);
void oracle_check_enforcement(struct world *world);
bool oracle_all_buried(const struct world *world); /* what customers left behind in former lanes */
decimal_t oracle_sum(const struct world *world, const char *customer, const char *meter,
                     enum ceiling_period period, int64_t start_us);

#endif
