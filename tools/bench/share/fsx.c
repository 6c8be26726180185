/* Random operations on one file, compared with a copy in memory after each: fsx FILE [OPERATIONS [SEED]]. The file is used
 * through two descriptors (one O_DIRECT), a shared mapping, truncation, holes and copies, as Apple's fsx does it. With a
 * difference it prints the last operations and fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX (256 * 1024)
#define PAGE 4096

static unsigned char good[MAX], *scratch;
static size_t size;
static int fd, direct;
static const char *path;
static uint64_t state;

static char history[64][96];
static unsigned long step;

static unsigned random_below(unsigned limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return limit ? (unsigned)(state >> 24) % limit : 0;
}

static void fail(const char *what) {
    printf("fsx: step %lu: %s: %s\n", step, what, strerror(errno));
    for (unsigned long i = step > 20 ? step - 20 : 0; i <= step; i++)
        printf("  %s\n", history[i % 64]);
    exit(1);
}

static void note(const char *what, size_t at, size_t len) {
    snprintf(history[step % 64], sizeof history[0], "%lu %s %#zx+%#zx of %#zx", step, what, at, len, size);
}

/* The model. */
static void grow(size_t to) {
    if (to > size) {
        memset(good + size, 0, to - size);
        size = to;
    }
}

static void compare(const unsigned char *data, size_t at, size_t len, const char *what) {
    if (memcmp(data, good + at, len) == 0)
        return;
    size_t i = 0;
    while (data[i] == good[at + i])
        i++;
    printf("at %#zx: %#x instead of %#x\n", at + i, data[i], good[at + i]);
    errno = 0;
    fail(what);
}

static void fill(size_t at, size_t len) {
    for (size_t i = 0; i < len; i++)
        good[at + i] = (unsigned char)(step + i + random_below(2));
}

static void do_read(int which, size_t at, size_t len) {
    note(which == fd ? "read" : "read direct", at, len);
    ssize_t n = pread(which, scratch, len, at);
    size_t expected = at >= size ? 0 : len < size - at ? len : size - at;
    if (n < 0 || (size_t)n != expected)
        fail("length of a read");
    compare(scratch, at, expected, "read");
}

static void do_write(int which, size_t at, size_t len) {
    note(which == fd ? "write" : "write direct", at, len);
    grow(at + len);
    fill(at, len);
    memcpy(scratch, good + at, len);
    if (pwrite(which, scratch, len, at) != (ssize_t)len)
        fail("write");
}

static void do_map(size_t at, size_t len, int writes) {
    if (at >= size)
        return;
    if (len > size - at)
        len = size - at;
    note(writes ? "map and write" : "map and read", at, len);
    size_t base = at / PAGE * PAGE;
    unsigned char *map = mmap(NULL, at - base + len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, base);
    if (map == MAP_FAILED)
        fail("mmap");
    if (writes) {
        fill(at, len);
        memcpy(map + (at - base), good + at, len);
        if (random_below(2) && msync(map, at - base + len, MS_SYNC))
            fail("msync");
    } else {
        compare(map + (at - base), at, len, "mapping");
    }
    if (munmap(map, at - base + len))
        fail("munmap");
}

static void do_truncate(size_t to) {
    note("truncate", to, 0);
    if (ftruncate(fd, to))
        fail("truncate");
    if (to > size)
        grow(to);
    size = to;
}

static void do_punch(size_t at, size_t len) {
    if (at >= size || len == 0)
        return;
    if (len > size - at)
        len = size - at;
    note("punch", at, len);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len)) {
        if (errno == EOPNOTSUPP)
            return;
        fail("punch");
    }
    memset(good + at, 0, len);
}

static void do_copy(size_t from, size_t to, size_t len) {
    if (from >= size)
        return;
    if (len > size - from)
        len = size - from;
    if (to + len > MAX || (from < to + len && to < from + len) || len == 0)
        return;
    note("copy", from, len);
    loff_t in = from, out = to;
    size_t left = len;
    while (left) {
        ssize_t n = copy_file_range(fd, &in, fd, &out, left, 0);
        if (n <= 0)
            fail("copy_file_range");
        left -= n;
    }
    grow(to + len);
    memcpy(good + to, good + from, len);
}

static void do_append(size_t len) {
    if (size + len > MAX)
        return;
    note("append", size, len);
    int end = open(path, O_WRONLY | O_APPEND);
    size_t at = size;
    grow(size + len);
    fill(at, len);
    if (end < 0 || write(end, good + at, len) != (ssize_t)len || close(end))
        fail("append");
}

static void do_reopen(void) {
    note("reopen", 0, 0);
    close(fd);
    close(direct);
    fd = open(path, O_RDWR);
    direct = open(path, O_RDWR | O_DIRECT);
    if (fd < 0 || direct < 0)
        fail("open");
}

static void check_all(void) {
    struct stat s;
    if (fstat(fd, &s) || (size_t)s.st_size != size)
        fail("size");
    do_read(fd, 0, MAX);
}

static void one(void) {
    size_t at = random_below(MAX), len = random_below(MAX - at < 65536 ? MAX - at : 65536);
    size_t page = at / PAGE * PAGE, pages = (len + PAGE - 1) / PAGE * PAGE;
    switch (random_below(13)) {
    case 0: case 1: return do_read(fd, at, len);
    case 2: case 3: return do_write(fd, at, len);
    case 4: return do_read(direct, page, pages);
    case 5: return do_write(direct, page, page + pages > MAX ? MAX - page : pages);
    case 6: return do_map(at, len, 0);
    case 7: case 8: return do_map(at, len, 1);
    case 9: return do_truncate(at);
    case 10: return do_punch(at, len);
    case 11: return random_below(2) ? do_copy(at, random_below(MAX), len) : do_append(len / 8);
    default:
        if (random_below(4) == 0)
            return do_reopen();
        note("fsync", 0, 0);
        if (random_below(2) ? fsync(fd) : fdatasync(fd))
            fail("fsync");
    }
}

int main(int argc, char **argv) {
    path = argc > 1 ? argv[1] : "fsx.data";
    unsigned long steps = argc > 2 ? strtoul(argv[2], 0, 0) : 10000;
    state = 0x9e3779b97f4a7c15ull * (argc > 3 ? strtoull(argv[3], 0, 0) : 1) | 1;
    if (posix_memalign((void **)&scratch, PAGE, MAX + PAGE))
        return 2;
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    direct = open(path, O_RDWR | O_DIRECT);
    if (fd < 0 || direct < 0)
        fail("open");
    for (step = 0; step < steps; step++) {
        one();
        if (step % 64 == 0)
            check_all();
    }
    check_all();
    unlink(path);
    printf("fsx: %lu operations, no difference\n", steps);
    return 0;
}
