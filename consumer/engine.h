/* The engine's insides, shared by the files that make it up:
 * pipeline.c (the turn), lanes.c (which there are), takeover.c (lanes come and go), probing.c (is their log
 * the one that was read?), rehome.c (partitions are added), intake.c (records to batch), enforce.c (decisions
 * to flags), batching.c (the open batch), settle.c (batches to the store, and rewind), recover.c (the store
 * was lost), ceilings.c (a new catalogue, lane by lane). */
#ifndef UB_ENGINE_H
#define UB_ENGINE_H

#include "engine_state.h"

/* pipeline.c */
void engine_note(struct pipeline *p, enum note_level level, int32_t lane, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
struct lane *engine_lane(struct pipeline *p, int32_t number); /* NULL: unknown */
/* Anything failed for want of memory: everything uncommitted is undone and tried again. */
void engine_out_of_memory(struct pipeline *p);
bool engine_running(const struct lane *lane);
/* Its flags go out and are waited for: what it decided before it was stopped is committed like all else. */
bool engine_enforcing(const struct lane *lane);

/* lanes.c */
struct lane *lanes_make(struct pipeline *p, int32_t number); /* NULL: out of memory, to be tried again */
bool lanes_next_unmade(struct pipeline *p, int32_t *number); /* takes one that is to be tried again now */

/* takeover.c */
void takeover_assigned(struct pipeline *p, const struct source_event *event);
void takeover_revoked(struct pipeline *p, const struct source_event *event);
void takeover_broken(struct pipeline *p, const struct source_event *event);
void takeover_free(struct store_lane *taken);
void takeover_done(struct pipeline *p, struct store_job *job);
void takeover_advance(struct pipeline *p);          /* every lane one step, if it can */
bool takeover_waits(const struct pipeline *p);      /* for nothing to be uncommitted any more */
struct store_job *takeover_job(struct pipeline *p); /* the next job that lanes wait for; NULL: none */
void takeover_stop(struct pipeline *p, struct lane *lane, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void takeover_forget(struct pipeline *p, struct lane *lane); /* its state; if assigned, taken over again */
void takeover_consume(struct pipeline *p);                   /* tells the source what to consume from where */

/* rehome.c */
bool rehome_fits(struct pipeline *p, int32_t present); /* partitions; false: every lane was stopped for it */
void rehome_settings(struct pipeline *p, const struct store_settings *settings); /* as just read */
bool rehome_flags(struct pipeline *p, struct lane *lane); /* tells its book which keys are its own */
struct former *rehome_former(struct pipeline *p);         /* what lanes hold; NULL: none does */
void rehome_measure(struct pipeline *p);

/* probing.c */
void probing_begin(struct pipeline *p, struct lane *lane);     /* READING_FLAGS and CHECKING: asks */
void probing_ask_again(struct pipeline *p, struct lane *lane); /* what was not answered */
void probing_watch(struct pipeline *p, struct lane *lane);     /* while it runs */
void probing_answered(struct pipeline *p, const struct source_event *event);
/* False: the lane was stopped, for its log lacks what the store remembers of it. */
bool probing_log_matches(struct pipeline *p, struct lane *lane, struct lane_topic *topic, const char *name);

/* intake.c */
void intake_records(struct pipeline *p, const struct source_event *event);
void intake_end(struct pipeline *p, const struct source_event *event);
void intake_watch_memory(struct pipeline *p); /* alerts while dedupe.memory_limit slows intake down */
bool intake_wanted(const struct pipeline *p);
bool intake_pending(struct pipeline *p, struct lane *lane, const struct event *event,
                    struct ceiling_origin origin);

/* enforce.c */
struct enforce_context {
    struct pipeline *pipeline;
    struct lane *lane;
    int64_t record_ms;
};
bool enforce_decided(void *context, const struct decision *decision);
void enforce_poll(struct pipeline *p);
void enforce_send(struct pipeline *p);
void enforce_give_way(struct pipeline *p); /* decides whether our own work waits for flags */
void enforce_tick(struct pipeline *p);
void enforce_committed(struct pipeline *p, const struct batch *batch);
bool enforce_restore(struct pipeline *p, struct lane *lane); /* the book of flags from the book of ceilings */
void enforce_catch_up(struct pipeline *p); /* of lanes that have passed what was reached before them */

/* batching.c */
bool batching_open(struct pipeline *p); /* makes sure that a batch is open; false: both are closed */
bool batching_join(struct pipeline *p, struct lane *lane); /* gives a lane its rows in the open batch */
bool batching_idle(const struct pipeline *p);              /* nothing uncommitted is left */
bool batching_clean(const struct pipeline *p);             /* … or a watermark alone */
void batching_reopen(struct pipeline *p); /* an empty batch begins anew, with the lanes of now */
void batching_discard(struct pipeline *p, struct batch **batch); /* it will never be committed */
void batching_close_if_due(struct pipeline *p);
bool batching_full(const struct pipeline *p, const struct batch *batch); /* takes no more records for now */
struct batch_day *batching_day_to_stream(const struct pipeline *p); /* the open batch's; NULL: none yet */
void batching_adopt_seals(struct pipeline *p); /* every running lane, of the seals that it has not adopted */

/* settle.c */
void settle_store(struct pipeline *p);      /* takes finished jobs, submits the next */
bool settle_busy(const struct pipeline *p); /* the store has something of ours under way */
bool settle_does(const struct pipeline *p, enum store_job_kind kind); /* … a job of this kind */
void settle_rewind(struct pipeline *p, const char *why); /* undoes what is not committed, when it may */
void settle_undo(struct pipeline *p, const char *why);   /* the same, now: the store has nothing of ours */
void settle_committed(struct pipeline *p, struct batch *batch);
struct store_job *settle_new_job(struct pipeline *p, enum store_job_kind kind);

/* recover.c */
void recover_lose(struct pipeline *p, const struct store_job *job);
struct store_job *recover_job(struct pipeline *p); /* NULL: not yet */
void recover_done(struct pipeline *p, struct store_job *job);

/* ceilings.c */
void ceilings_loaded(struct pipeline *p, struct ceiling_catalogue *catalogue);
const struct ceiling_catalogue *ceilings_newest(const struct pipeline *p); /* NULL: none loaded */
const struct ceiling_catalogue *ceilings_at(const struct pipeline *p, int64_t generation);
bool ceilings_closing(struct pipeline *p, struct batch *batch); /* before the changes are collected */
void ceilings_closed(struct pipeline *p, struct batch *batch);
void ceilings_committed(struct pipeline *p, const struct batch *batch);
void ceilings_failed(struct pipeline *p);                   /* a rewind: shadow counting starts over */
void ceilings_forget(struct pipeline *p);                   /* all that were loaded; no lane uses any */
void ceilings_leave(struct pipeline *p, struct lane *lane); /* it stops: adopting ends */
struct store_job *ceilings_job(struct pipeline *p);
void ceilings_seeded(struct pipeline *p, struct store_job *job); /* takes the job */
void ceilings_settings_read(struct pipeline *p);
void ceilings_check(struct pipeline *p); /* does any running lane lag behind the newest catalogue? */

#endif
