#include "uuid7.h"

#include <inttypes.h>
#include <stdio.h>

void uuid7_text(int64_t time_ms, uint16_t high, uint64_t low, char text[UUID7_TEXT_BYTES])
{
    uint64_t time = (uint64_t)time_ms & 0xffffffffffff;
    unsigned version_and_high = 0x7000 | (high & 0xfff);
    unsigned variant_and_low = 0x8000 | (unsigned)(low >> 48 & 0x3fff);
    snprintf(text, UUID7_TEXT_BYTES, "%08x-%04x-%04x-%04x-%012" PRIx64, (unsigned)(time >> 16),
             (unsigned)(time & 0xffff), version_and_high, variant_and_low, low & 0xffffffffffff);
}
