/* Runs a fuzzer's inputs without libFuzzer: the files that are named, and those in the folders that are
 * named. For a corpus under gcc's coverage, valgrind or a debugger. */
#include "fuzz.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

static long run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(size); /* exactly, so that ASan sees one byte too far */
    if (fread(bytes, 1, size, file) != size) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    return 1;
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static long run_path(const char *path)
{
    struct stat status;
    struct dirent **entries;
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        return run_file(path);
    int count = scandir(path, &entries, not_hidden, alphasort);
    long done = 0;
    for (int i = 0; i < count; i++) {
        char *inside;
        if (asprintf(&inside, "%s/%s", path, entries[i]->d_name) < 0)
            abort();
        done += run_path(inside);
        free(inside);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return done;
}

int main(int argc, char **argv)
{
    long done = 0;
    for (int i = 1; i < argc; i++)
        done += run_path(argv[i]);
    printf("%s: %ld inputs\n", argv[0], done);
    return done > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
