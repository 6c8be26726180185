// Integer work: what compilers make of ordinary code.
#include "work.h"

// --- A mixture of list, matrix and state machine work, each round folded by a bitwise CRC.

struct node {
    struct node *next;
    int16_t key, value;
};

static uint16_t crc16(uint16_t crc, uint16_t value) {
    for (int i = 0; i < 16; i++) {
        unsigned carry = (crc ^ value) & 1;
        crc = crc >> 1 ^ (carry ? 0xa001 : 0);
        value >>= 1;
    }
    return crc;
}

static struct node *merge_sort(struct node *list) {
    if (!list || !list->next) return list;
    struct node *slow = list, *fast = list->next;
    while (fast && fast->next) {
        slow = slow->next;
        fast = fast->next->next;
    }
    struct node *right = slow->next;
    slow->next = NULL;
    struct node *left = merge_sort(list), *head = NULL, **tail = &head;
    right = merge_sort(right);
    while (left && right) {
        struct node **from = left->key <= right->key ? &left : &right;
        *tail = *from;
        *from = (*from)->next;
        tail = &(*tail)->next;
    }
    *tail = left ? left : right;
    return head;
}

static uint16_t lists(struct node *nodes, int count, uint16_t seed) {
    for (int i = 0; i < count; i++) {
        nodes[i].next = i + 1 < count ? &nodes[i + 1] : NULL;
        nodes[i].key = (int16_t)(i * 7919 + seed);
        nodes[i].value = (int16_t)i;
    }
    struct node *list = merge_sort(nodes), *reversed = NULL;
    while (list) {
        struct node *next = list->next;
        list->next = reversed;
        reversed = list;
        list = next;
    }
    uint16_t crc = seed;
    int position = 0;
    for (struct node *n = reversed; n; n = n->next)
        if (position++ % 4 == 0) crc = crc16(crc, (uint16_t)n->value);
    return crc;
}

enum { SIDE = 16 };

static uint16_t matrix(int16_t *a, int16_t *b, int32_t *c, uint16_t seed) {
    for (int i = 0; i < SIDE * SIDE; i++) {
        a[i] = (int16_t)((i * seed) & 0xff);
        b[i] = (int16_t)((i + seed) & 0x7f);
    }
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            int32_t sum = 0;
            for (int k = 0; k < SIDE; k++) {
                int32_t product = a[i * SIDE + k] * b[k * SIDE + j];
                sum += (product >> 2 & 0xf) * (product >> 5 & 0x7f);
            }
            c[i * SIDE + j] = sum;
        }
    uint16_t crc = seed;
    for (int i = 0; i < SIDE * SIDE; i += 8) crc = crc16(crc, (uint16_t)c[i]);
    return crc;
}

enum state { START, INTEGER, FRACTION, EXPONENT, INVALID, STATES };

static uint16_t states(const char *text, uint16_t seed) {
    uint32_t counts[STATES] = {0};
    enum state state = START;
    for (const char *c = text; *c; c++) {
        int digit = *c >= '0' && *c <= '9';
        switch (state) {
        case START: state = digit || *c == '-' || *c == '+' ? INTEGER : *c == '.' ? FRACTION : INVALID; break;
        case INTEGER: state = digit ? INTEGER : *c == '.' ? FRACTION : *c == 'e' ? EXPONENT : INVALID; break;
        case FRACTION: state = digit ? FRACTION : *c == 'e' ? EXPONENT : INVALID; break;
        case EXPONENT: state = digit || *c == '-' ? EXPONENT : INVALID; break;
        default: break;
        }
        if (*c == ',') {
            counts[state]++;
            state = START;
        }
    }
    for (int i = 0; i < STATES; i++) seed = crc16(seed, (uint16_t)counts[i]);
    return seed;
}

static uint64_t core(long rounds) {
    static struct node nodes[128];
    static int16_t a[SIDE * SIDE], b[SIDE * SIDE];
    static int32_t c[SIDE * SIDE];
    const char *text = "5012,1874,-874,+122,35.54400,.1234500,-110.700,+0.64400,5.500e+3,-.123e-2,-87e+832,T0.3e-1F,-T.T++Tq,1T3.4e4z,";
    uint16_t crc = 0xffff;
    for (long i = 0; i < rounds; i++) {
        crc = lists(nodes, 128, crc);
        crc = matrix(a, b, c, crc);
        for (int k = 0; k < 4; k++) crc = states(text, crc);
    }
    return crc;
}

// --- Records, strings and small procedures in the manner of the programs of 1984.

struct record {
    struct record *next;
    int kind, number;
    char text[31];
};

static __attribute__((noinline)) int compare(const char *a, const char *b) {
    int at = 2;
    while (at <= 2)
        if (a[at] == b[at + 1]) at += 1;
        else return a[0] < b[0];
    return strcmp(a, b) > 0;
}

static __attribute__((noinline)) void update(struct record *from, struct record *to) {
    *to = *from;
    to->number = from->number + 10;
    to->next = from->next;
    to->kind = from->kind == 2 ? 1 : from->kind + 1;
}

static __attribute__((noinline)) void fill(int *one, int (*two)[50], int index, int value) {
    one[index] = value;
    one[index + 1] = one[index];
    one[index + 30] = index;
    for (int i = index; i <= index + 1; i++) two[index][i] = index;
    two[index][index - 1] += 1;
    two[index + 20][index] = one[index];
}

static uint64_t records(long rounds) {
    static int one[50], two[50][50];
    struct record a = {NULL, 0, 40, "A PROGRAM, SOME STRING"}, b = {&a, 2, 17, "A PROGRAM, 2'ND STRING"};
    char first[31], second[31];
    uint64_t hash = 0;
    for (long i = 0; i < rounds; i++) {
        strcpy(first, a.text);
        strcpy(second, b.text);
        second[11] = (char)('1' + i % 9);
        int x = 2, y = 3, z = 0;
        if (!compare(first, second)) x++;
        while (x < y) {
            z = 5 * x - y;
            x++;
        }
        fill(one, two, (int)(i % 8) + 8, z);
        update(&b, &a);
        update(&a, &b);
        y = (7 * (z - y) - x) / (int)(i % 5 + 1);
        hash += (uint64_t)(y + a.number + one[8 + i % 8]) ^ (uint64_t)second[11];
    }
    return hash;
}

// --- Calls, branches, tables.

static __attribute__((noinline)) uint64_t fib_of(unsigned n) {
    return n < 2 ? n : fib_of(n - 1) + fib_of(n - 2);
}

static uint64_t fib(long n) { return fib_of((unsigned)n); }

static uint64_t interpreter(long rounds) {
    enum { PUSH, ADD, SUB, MUL, XOR, DUP, SWAP, SHIFT, LOAD, STORE, BRANCH, COUNT };
    static const uint8_t program[] = {LOAD,  0,    PUSH, 7,    MUL,  DUP,    SHIFT, 3,   XOR,  STORE, 0,     LOAD, 1,
                                      PUSH,  3,    ADD,  DUP,  LOAD, 0,      ADD,   SWAP, SUB, PUSH,  5,     XOR,  STORE,
                                      1,     LOAD, 0,    PUSH, 1,    BRANCH, 8,     LOAD, 1,   LOAD,  0,     ADD,  STORE, 0,  COUNT};
    uint32_t stack[32], memory[2] = {1, 2};
    int top = 0;
    size_t pc = 0;
    for (;;) {
        switch (program[pc++]) {
        case PUSH: stack[top++] = program[pc++]; break;
        case ADD: top--; stack[top - 1] += stack[top]; break;
        case SUB: top--; stack[top - 1] -= stack[top]; break;
        case MUL: top--; stack[top - 1] *= stack[top]; break;
        case XOR: top--; stack[top - 1] ^= stack[top]; break;
        case DUP: stack[top] = stack[top - 1]; top++; break;
        case SWAP: { uint32_t t = stack[top - 1]; stack[top - 1] = stack[top - 2]; stack[top - 2] = t; break; }
        case SHIFT: stack[top - 1] >>= program[pc++]; break;
        case LOAD: stack[top++] = memory[program[pc++]]; break;
        case STORE: memory[program[pc++]] = stack[--top]; break;
        case BRANCH: { uint32_t bit = stack[--top]; pc += (stack[--top] & bit) ? program[pc] : 1; break; }
        case COUNT:
            top = 0;
            pc = 0;
            if (--rounds == 0) return mix(memory[0], memory[1]);
            break;
        default: abort();
        }
    }
}

static uint64_t multiply(long rounds) {
    enum { N = 64 };
    static int32_t a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N * N; i++) {
        a[i / N][i % N] = i * 37 % 101;
        b[i / N][i % N] = i * 53 % 97;
    }
    uint64_t hash = 0;
    while (rounds-- > 0) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                int32_t sum = 0;
                for (int k = 0; k < N; k++) sum += a[i][k] * b[k][j];
                c[i][j] = sum;
            }
        a[rounds % N][rounds % 7] ^= c[rounds % N][3];
        hash = mix(hash, (uint32_t)c[rounds % N][5]);
    }
    return hash;
}

static void quick_sort(uint32_t *low, uint32_t *high) {
    while (high - low > 12) {
        uint32_t pivot = low[(high - low) / 2], *i = low - 1, *j = high;
        for (;;) {
            while (*++i < pivot) {}
            while (*--j > pivot) {}
            if (i >= j) break;
            uint32_t t = *i; *i = *j; *j = t;
        }
        quick_sort(low, j + 1);
        low = j + 1;
    }
    for (uint32_t *i = low + 1; i < high; i++) {
        uint32_t value = *i, *j = i;
        for (; j > low && j[-1] > value; j--) *j = j[-1];
        *j = value;
    }
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint64_t sort(long rounds) {
    enum { N = 50000 };
    static uint32_t values[N];
    uint64_t state = 88172645463325252u, hash = 0;
    while (rounds-- > 0) {
        for (int i = 0; i < N; i++) values[i] = (uint32_t)next_random(&state);
        // By turns with everything inlined, and through the library with a call per comparison.
        if (rounds & 1) quick_sort(values, values + N);
        else qsort(values, N, sizeof *values, by_value);
        for (int i = 0; i < N; i += 997) hash = mix(hash, values[i]);
    }
    return hash;
}

static uint64_t hash_table(long rounds) {
    enum { SLOTS = 1 << 15 };
    static struct { uint64_t key, value; } table[SLOTS];
    uint64_t state = 4101842887655102017u, hash = 0;
    while (rounds-- > 0) {
        uint64_t key = next_random(&state) % 20000 + 1, slot = key * 0x9e3779b97f4a7c15u >> 49;
        while (table[slot].key && table[slot].key != key) slot = (slot + 1) % SLOTS;
        table[slot].key = key;
        table[slot].value += rounds;
        hash += table[slot].value;
    }
    return hash;
}

static uint64_t sieve(long rounds) {
    enum { N = 1 << 17 };
    static uint8_t composite[N];
    uint64_t count = 0;
    while (rounds-- > 0) {
        memset(composite, 0, N);
        for (int i = 2; i < N; i++) {
            if (composite[i]) continue;
            count++;
            for (int j = i + i; j < N; j += i) composite[j] = 1;
        }
    }
    return count;
}

static uint64_t wide(long rounds) {
    uint64_t state = 1181783497276652981u, hash = 0;
    while (rounds-- > 0) {
        uint64_t a = next_random(&state), b = next_random(&state) | 1;
        unsigned __int128 product = (unsigned __int128)a * b;
        hash += (uint64_t)(product >> 64) ^ a / (b >> 40 | 1) ^ (uint32_t)(a >> 3) % (uint32_t)(b >> 50 | 1);
        hash = hash << 13 | hash >> 51;
        hash += (uint64_t)__builtin_clzll(a | 1) + (uint64_t)__builtin_ctzll(b << 5 | 1u << 31) + __builtin_bswap64(b);
    }
    return hash;
}

static const struct work list[] = {{"core", core},         {"records", records}, {"fib", fib},
                                   {"interpreter", interpreter}, {"multiply", multiply}, {"sort", sort},
                                   {"hash", hash_table},   {"sieve", sieve},     {"wide", wide}};
MAIN(list)
