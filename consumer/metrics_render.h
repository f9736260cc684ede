/* The pieces of an exposition in Prometheus' text format 0.0.4. Private to the metrics. */
#ifndef UB_METRICS_RENDER_H
#define UB_METRICS_RENDER_H

#include "metrics.h"

/* The upper bounds of a histogram's buckets, in the unit of what is observed; there are `count`. */
struct histogram_shape {
    const char *name;
    const char *help;
    int64_t bounds[HISTOGRAM_BUCKETS];
    size_t count;
    bool is_time; /* observed in µs, exposed in seconds */
};
extern const struct histogram_shape metrics_shapes[METRICS_HISTOGRAMS];

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };
void metrics_family(FILE *out, const char *name, enum metrics_type type, const char *help);

/* µs as seconds: -0.000001, 12.5 as 12.500000. */
void metrics_seconds(FILE *out, int64_t value_us);

/* Memory, processor time and start of this process, as Prometheus' own client libraries name them. Left out
 * what /proc doesn't tell. */
void metrics_render_process(FILE *out);

#endif
