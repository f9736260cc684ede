/* The configuration parser: what it takes prints as YAML that says the same when it is read; what it refuses
 * it refuses with whole sentences that name the file, and no control characters. Input: config.yaml. */
#include "fuzz.h"

#include "consumer/config.h"
#include "rollup/json_text.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char path[32];

static void write_file(const void *bytes, size_t size)
{
    static int file = -1;
    if (file < 0)
        file = memfd_create("config.yaml", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    FUZZ_CHECK(ftruncate(file, 0) == 0 && pwrite(file, bytes, size, 0) == (ssize_t)size, "no file");
}

static void check_sentence(const char *sentence)
{
    size_t length = strlen(sentence), bytes = 0;
    FUZZ_CHECK(strncmp(sentence, path, strlen(path)) == 0, "no place in it: %s", sentence);
    for (size_t i = 0; i < length; i += bytes) {
        bytes = utf8_sequence_bytes(sentence + i, length - i);
        FUZZ_CHECK(bytes > 0 && (unsigned char)sentence[i] >= 0x20 && sentence[i] != 0x7f, "byte %zu of %s",
                   i, sentence);
    }
}

/* NULL: refused. */
static char *load_and_print(void)
{
    struct config config;
    struct config_errors errors = {0};
    char *text = NULL;
    size_t length = 0;
    bool loaded = config_load(path, &config, &errors);
    FUZZ_CHECK(loaded == (errors.count == 0), "%zu errors", errors.count);
    for (size_t i = 0; i < errors.count; i++)
        check_sentence(errors.items[i]);
    config_errors_free(&errors);
    if (!loaded)
        return NULL;
    FILE *out = open_memstream(&text, &length);
    config_print(&config, out);
    fclose(out);
    config_free(&config);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    clearenv(); /* which would override the file */
    write_file(data, size);
    char *printed = load_and_print();
    if (!printed)
        return 0;
    write_file(printed, strlen(printed));
    char *again = load_and_print();
    FUZZ_CHECK(again, "what is printed is refused:\n%s", printed);
    FUZZ_CHECK(strcmp(printed, again) == 0, "it says something else now:\n%s\n%s", printed, again);
    free(printed);
    free(again);
    return 0;
}
