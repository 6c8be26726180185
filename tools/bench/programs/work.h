// What all programs share: a table of pieces of work, run by name with a fixed amount, that give a checksum.
#ifndef WORK_H
#define WORK_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct work {
    const char *name;
    uint64_t (*run)(long amount);
};

static inline uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static inline uint64_t bits(double value) {
    uint64_t result;
    memcpy(&result, &value, sizeof result);
    return result;
}

// xorshift64*: the same numbers on every machine.
static inline uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

static inline void fail(const char *what) {
    perror(what);
    exit(1);
}

static inline void *get(size_t size) {
    void *memory = malloc(size);
    if (!memory) fail("malloc");
    return memory;
}

static inline int run_work(const struct work *list, size_t count, int argc, char **argv) {
    for (size_t i = 0; argc == 3 && i < count; i++) {
        if (strcmp(list[i].name, argv[1]) == 0) {
            printf("%s %016llx\n", list[i].name, (unsigned long long)list[i].run(atol(argv[2])));
            return 0;
        }
    }
    fprintf(stderr, "usage: %s WORK AMOUNT\n", argv[0]);
    return 2;
}

#define MAIN(list) \
    int main(int argc, char **argv) { return run_work(list, sizeof list / sizeof *list, argc, argv); }
#endif
