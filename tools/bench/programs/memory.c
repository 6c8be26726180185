// Memory: bandwidth, latency, and what address translation adds to both.
#include "work.h"

enum { LARGE = 32 << 20 };

static uint64_t *numbers(size_t bytes) {
    uint64_t *array = get(bytes);
    for (size_t i = 0; i < bytes / 8; i++) array[i] = i * 0x9e3779b97f4a7c15u;
    return array;
}

static uint64_t stream(long rounds) {
    size_t count = LARGE / 8;
    uint64_t *from = numbers(LARGE), *to = numbers(LARGE);
    while (rounds-- > 0)
        for (size_t i = 0; i < count; i++) to[i] = from[i] + (to[i] >> 1);
    return mix(to[5], to[count - 1]);
}

static uint64_t copy(long rounds) {
    char *from = (char *)numbers(LARGE), *to = (char *)numbers(LARGE);
    for (long i = 0; i < rounds; i++) {
        from[i]++;
        memcpy(to, from, LARGE);
    }
    return mix((unsigned char)to[0], (unsigned char)to[rounds]);
}

static uint64_t scatter(long rounds) {
    size_t count = LARGE / 8;
    uint64_t *table = numbers(LARGE), state = 1;
    while (rounds-- > 0) {
        uint64_t value = next_random(&state);
        table[value >> 32 & (count - 1)] ^= value;
    }
    return mix(table[77], table[count / 2]);
}

// Follows pointers in one random cycle through `bytes` of memory, one pointer per cache line.
static uint64_t chase(size_t bytes, long steps) {
    struct line {
        struct line *next;
        uint64_t number, unused[6];
    } *lines = get(bytes);
    size_t count = bytes / sizeof *lines;
    uint32_t *order = get(count * sizeof *order);
    uint64_t state = 99;
    for (size_t i = 0; i < count; i++) order[i] = (uint32_t)i;
    for (size_t i = count - 1; i > 0; i--) {
        size_t j = next_random(&state) % i;
        uint32_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (size_t i = 0; i < count; i++) {
        lines[order[i]].next = &lines[order[(i + 1) % count]];
        lines[order[i]].number = i;
    }
    struct line *at = lines;
    while (steps-- > 0) at = at->next;
    return at->number;
}

static uint64_t chase_large(long steps) { return chase(LARGE, steps); }
static uint64_t chase_small(long steps) { return chase(256 << 10, steps); }

struct item {
    struct item *next;
    uint64_t value;
};

static uint64_t linked_list(long rounds) {
    struct item *head = NULL;
    uint64_t sum = 0;
    for (int i = 0; i < 4000; i++) {
        struct item *item = get(sizeof *item);
        *item = (struct item){head, (uint64_t)i};
        head = item;
    }
    while (rounds-- > 0)
        for (struct item *i = head; i; i = i->next) {
            sum += i->value;
            i->value ^= (uint64_t)rounds & 1;
        }
    return sum;
}

static uint64_t pages(long rounds) {
    // One word per page: the working set of a TLB, not of a cache.
    volatile uint64_t *table = numbers(LARGE);
    uint64_t sum = 0;
    while (rounds-- > 0)
        for (size_t page = 0; page < LARGE / 4096; page++) sum += table[page * 512 + page % 64 * 8];
    return sum;
}

static const struct work list[] = {{"stream", stream},           {"copy", copy},        {"scatter", scatter},
                                   {"chase-large", chase_large}, {"list", linked_list}, {"chase-small", chase_small},
                                   {"pages", pages}};
MAIN(list)
