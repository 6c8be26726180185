// The C library's string functions, and loops that compilers turn into vector instructions.
#include "work.h"

enum { BUFFER = 64 << 10 };
static char text[BUFFER + 64] __attribute__((aligned(64))), copy[BUFFER + 64] __attribute__((aligned(64)));

// Keeps the compiler from moving or merging what touches memory.
static inline void barrier(void) { __asm__ volatile("" ::: "memory"); }

static void fill_text(void) {
    uint64_t state = 362436069u;
    for (int i = 0; i < BUFFER; i++) text[i] = (char)('a' + next_random(&state) % 26);
    text[BUFFER] = 0;
}

static uint64_t length(long rounds) {
    uint64_t sum = 0;
    fill_text();
    while (rounds-- > 0) {
        barrier();
        sum += strlen(text + rounds % 1000) + strlen(text + BUFFER - 20 - rounds % 300);
    }
    return sum;
}

static uint64_t find(long rounds) {
    uint64_t sum = 0;
    fill_text();
    text[BUFFER - 9] = '!';
    while (rounds-- > 0) {
        barrier();
        sum += (uint64_t)((char *)memchr(text + rounds % 1000, '!', BUFFER) - text);
        sum += (uint64_t)((char *)memchr(text + rounds % 3000, 'q', BUFFER - 3000) - text);
    }
    return sum;
}

static uint64_t compare(long rounds) {
    uint64_t sum = 0;
    fill_text();
    memcpy(copy, text, sizeof copy);
    copy[BUFFER - 5]++;
    while (rounds-- > 0) {
        barrier();
        long at = rounds % 500;
        sum += (uint64_t)(memcmp(text + at, copy + at, (size_t)(BUFFER - at)) < 0);
        sum += (uint64_t)(strcmp(text + at, copy + at) < 0);
        sum += (uint64_t)(memcmp(text + at, copy + at, 24) == 0);
    }
    return sum;
}

static uint64_t copy_small(long rounds) {
    uint64_t sum = 0;
    fill_text();
    while (rounds-- > 0) {
        unsigned mixed = (unsigned)rounds * 2654435761u;
        memcpy(copy + (mixed >> 20), text + (mixed >> 8 & 0xfff), mixed & 63);
        memset(copy + (mixed >> 19), (int)rounds, mixed >> 6 & 31);
        barrier();
        sum += (unsigned char)copy[mixed >> 20];
    }
    return sum;
}

static uint64_t copy_large(long rounds) {
    uint64_t sum = 0;
    fill_text();
    while (rounds-- > 0) {
        memcpy(copy + rounds % 33, text + rounds % 17, BUFFER - 64);
        barrier();
        memset(copy + 128, (int)rounds, BUFFER / 2);
        barrier();
        sum += (unsigned char)copy[40000 + rounds % 999];
    }
    return sum;
}

static uint64_t sums(long rounds) {
    enum { N = 8192 };
    static int32_t words[N];
    static int16_t halves[N];
    static uint8_t octets[N];
    uint64_t hash = 0;
    for (int i = 0; i < N; i++) {
        words[i] = i * 7919;
        halves[i] = (int16_t)(i * 31);
        octets[i] = (uint8_t)(i * 13);
    }
    while (rounds-- > 0) {
        int32_t sum = 0, dot = 0, most = INT32_MIN;
        uint32_t octet_sum = 0;
        for (int i = 0; i < N; i++) sum += words[i];
        for (int i = 0; i < N; i++) dot += halves[i] * halves[i];
        for (int i = 0; i < N; i++) octet_sum += octets[i];
        for (int i = 0; i < N; i++) most = words[i] > most ? words[i] : most;
        words[rounds % N] += 3;
        octets[rounds % N]++;
        hash = mix(hash, (uint64_t)(uint32_t)(sum ^ dot ^ most) << 32 | octet_sum);
    }
    return hash;
}

static uint64_t blend(long rounds) {
    enum { N = 16384 };
    static uint8_t front[N], back[N], out[N];
    uint64_t hash = 0;
    for (int i = 0; i < N; i++) {
        front[i] = (uint8_t)(i * 7);
        back[i] = (uint8_t)(i * 11);
    }
    while (rounds-- > 0) {
        unsigned alpha = (unsigned)rounds & 0xff;
        for (int i = 0; i < N; i++) out[i] = (uint8_t)((front[i] * alpha + back[i] * (255 - alpha) + 128) >> 8);
        for (int i = 0; i < N; i++) back[i] = out[i] > 200 ? 200 : out[i] ^ front[N - 1 - i];
        hash = mix(hash, out[rounds % N]);
    }
    return hash;
}

static const struct work list[] = {{"length", length},         {"find", find}, {"compare", compare}, {"copy-small", copy_small},
                                   {"copy-large", copy_large}, {"sums", sums}, {"blend", blend}};
MAIN(list)
