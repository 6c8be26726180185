// Atomic operations by one thread, and by two.
#include "work.h"
#include <pthread.h>
#include <stdatomic.h>

static _Atomic uint64_t counter, flags;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t count(long rounds) {
    while (rounds-- > 0) {
        atomic_fetch_add(&counter, 3);
        atomic_fetch_or_explicit(&flags, 1ull << (rounds & 31), memory_order_relaxed);
    }
    return mix(counter, flags);
}

static uint64_t lock(long rounds) {
    uint64_t protected = 0;
    while (rounds-- > 0) {
        pthread_mutex_lock(&mutex);
        protected += (uint64_t)rounds;
        pthread_mutex_unlock(&mutex);
    }
    return protected;
}

static uint64_t exchange(long rounds) {
    while (rounds-- > 0) {
        uint64_t old = atomic_load(&counter);
        while (!atomic_compare_exchange_weak(&counter, &old, old * 5 + 1)) {}
    }
    return counter;
}

static uint64_t order(long rounds) {
    static _Atomic uint64_t ready, data[64];
    uint64_t sum = 0;
    while (rounds-- > 0) {
        atomic_store_explicit(&data[rounds & 63], (uint64_t)rounds, memory_order_relaxed);
        atomic_store_explicit(&ready, (uint64_t)rounds, memory_order_release);
        sum += atomic_load_explicit(&ready, memory_order_acquire) + data[(rounds + 7) & 63];
    }
    return sum;
}

static void *add(void *rounds) {
    for (long i = 0; i < *(long *)rounds; i++) {
        atomic_fetch_add(&counter, 1);
        pthread_mutex_lock(&mutex);
        flags += 2;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static uint64_t contended(long rounds) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, add, &rounds)) fail("pthread_create");
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    return mix(counter, flags);
}

static void *compute(void *argument) {
    uint64_t *slot = argument, state = *slot;
    static const int size = 4096;
    uint64_t *table = get(size * sizeof *table);
    for (int i = 0; i < size; i++) table[i] = next_random(&state);
    for (uint64_t i = 0; i < slot[1]; i++) table[i % size] += table[table[i % size] % size] ^ next_random(&state);
    *slot = table[17] ^ state;
    free(table);
    return NULL;
}

// Four independent jobs for as many vCPUs as there are.
static uint64_t threads(long rounds) {
    pthread_t ids[4];
    uint64_t jobs[4][8];
    for (int i = 0; i < 4; i++) {
        jobs[i][0] = (uint64_t)i + 1;
        jobs[i][1] = (uint64_t)rounds;
        if (pthread_create(&ids[i], NULL, compute, jobs[i])) fail("pthread_create");
    }
    uint64_t hash = 0;
    for (int i = 0; i < 4; i++) {
        pthread_join(ids[i], NULL);
        hash = mix(hash, jobs[i][0]);
    }
    return hash;
}

static const struct work list[] = {{"count", count}, {"lock", lock},           {"exchange", exchange},
                                   {"order", order}, {"contended", contended}, {"threads", threads}};
MAIN(list)
