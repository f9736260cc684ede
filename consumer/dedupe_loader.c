#include "dedupe_loader.h"

#include <stdlib.h>
#include <string.h>

/* Keys are gathered by their top bits, as many as a table has shards by. */
enum { GATHERED_KEYS = 1 << 18, GATHERED_BYTES = GATHERED_KEYS * DEDUPE_SEGMENT_BYTES, TOP_BITS = 12 };

struct dedupe_loader {
    struct dedupe *dedupe; /* what the gathered keys are for */
    uint16_t day;
    size_t size_bytes;
    uint32_t next[1 << TOP_BITS]; /* where the next key with these bits goes in sorted */
    uint8_t gathered[GATHERED_BYTES];
    uint8_t sorted[GATHERED_BYTES];
};

struct dedupe_loader *dedupe_loader_new(void)
{
    struct dedupe_loader *loader = malloc(sizeof *loader);
    if (loader)
        loader->size_bytes = 0, loader->dedupe = NULL, loader->day = 0;
    return loader;
}

void dedupe_loader_free(struct dedupe_loader *loader)
{
    free(loader);
}

/* A key's two most significant bytes come last. */
static uint32_t top_of(const uint8_t *entry)
{
    return ((uint32_t)entry[15] << 8 | entry[14]) >> (16 - TOP_BITS);
}

static void count_tops(struct dedupe_loader *loader)
{
    memset(loader->next, 0, sizeof loader->next);
    for (size_t at = 0; at < loader->size_bytes; at += DEDUPE_SEGMENT_BYTES)
        loader->next[top_of(loader->gathered + at)]++;
    uint32_t before = 0;
    for (size_t top = 0; top < 1 << TOP_BITS; top++) {
        uint32_t count = loader->next[top];
        loader->next[top] = before;
        before += count;
    }
}

static void sort(struct dedupe_loader *loader)
{
    count_tops(loader);
    for (size_t at = 0; at < loader->size_bytes; at += DEDUPE_SEGMENT_BYTES) {
        const uint8_t *entry = loader->gathered + at;
        size_t to = loader->next[top_of(entry)]++;
        memcpy(loader->sorted + to * DEDUPE_SEGMENT_BYTES, entry, DEDUPE_SEGMENT_BYTES);
    }
}

bool dedupe_loader_finish(struct dedupe_loader *loader)
{
    if (loader->size_bytes == 0)
        return true;
    sort(loader);
    size_t size_bytes = loader->size_bytes;
    loader->size_bytes = 0;
    return dedupe_segment_restore(loader->dedupe, loader->day, loader->sorted, size_bytes);
}

bool dedupe_loader_add(struct dedupe_loader *loader, struct dedupe *dedupe, uint16_t day,
                       const uint8_t *bytes, size_t size_bytes)
{
    if (size_bytes % DEDUPE_SEGMENT_BYTES != 0)
        return false;
    bool another = loader->dedupe != dedupe || loader->day != day;
    if (loader->size_bytes > 0 && another && !dedupe_loader_finish(loader))
        return false;
    loader->dedupe = dedupe;
    loader->day = day;
    while (size_bytes > 0) {
        size_t room = GATHERED_BYTES - loader->size_bytes;
        size_t piece = size_bytes < room ? size_bytes : room;
        memcpy(loader->gathered + loader->size_bytes, bytes, piece);
        loader->size_bytes += piece;
        bytes += piece;
        size_bytes -= piece;
        if (loader->size_bytes == GATHERED_BYTES && !dedupe_loader_finish(loader))
            return false;
    }
    return true;
}
