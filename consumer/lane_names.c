#include "pipeline.h"

const char *const lane_phase_names[LANE_PHASES] = {"idle",    "reading_flags", "taking", "checking",
                                                   "running", "waiting",       "stopped"};
