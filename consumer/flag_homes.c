/* Which keys of a partition are its lane's own: after partitions were added, not all that it holds. */
#include "flag_rows.h"
#include "json_load.h"

bool row_is_foreign(const struct flag_book *book, struct text key, bool *foreign)
{
    *foreign = false;
    if (book->homes.lanes == 0)
        return true;
    bool starved;
    json_t *parts = json_load_text(key, JSON_ALLOW_NUL, NULL, &starved);
    json_t *customer = json_array_get(parts, 0);
    if (json_is_string(customer)) {
        struct text name = {json_string_value(customer), (uint32_t)json_string_length(customer)};
        *foreign = partitioner_lane(book->homes.partitioner, name, book->homes.lanes) != book->lane;
    }
    json_decref(parts);
    return !starved;
}

bool flag_book_homes(struct flag_book *book, const struct flag_homes *homes)
{
    book->homes = *homes;
    for (uint32_t i = 0; i < book->rows.count; i++) {
        struct flag_row *row = row_at(book, i);
        if (row->live && !row_is_foreign(book, row->key, &row->foreign))
            return false;
    }
    return true;
}

bool bury_foreign(struct flag_book *book, uint32_t number)
{
    struct flag_row *row = row_at(book, number);
    if (row->ticket != 0 || row->unseen || row->in_flight > 0 || row->held_kind == HELD_FOREIGN)
        return true;
    if (row->held_kind != HELD_FLAG) {
        row_remove(book, number);
        return true;
    }
    row->tombstone = true;
    return make_due(book, number);
}
