#include "json_load.h"

json_t *json_load_text(struct text text, size_t flags, bool *starved)
{
    const char *bytes = text.bytes ? text.bytes : "";
    json_t *document = NULL;
    *starved = false;
    /* A string that finds no memory is an invalid token to jansson: none is believed to be one at once. */
    for (int i = 0; !document && !*starved && i < 2; i++) {
        json_error_t error = {0};
        document = json_loadb(bytes, text.length, flags, &error);
        enum json_error_code code = json_error_code(&error);
        *starved = !document && (code == json_error_out_of_memory || code == json_error_unknown);
    }
    return document;
}
