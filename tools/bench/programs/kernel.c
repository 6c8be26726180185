// The kernel's services: system calls, signals, processes, pipes, page tables.
#define _GNU_SOURCE
#include "work.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static uint64_t getppid_loop(long rounds) {
    uint64_t same = 0;
    long parent = getppid();
    for (long i = 0; i < rounds; i++) same += syscall(SYS_getppid) == parent;
    return same;
}

static uint64_t files(long rounds) {
    uint64_t sum = 0;
    char buffer[512];
    while (rounds-- > 0) {
        struct stat info;
        int fd = open("/dev/zero", O_RDONLY);
        if (fd < 0 || fstat(fd, &info) || read(fd, buffer, sizeof buffer) != sizeof buffer) fail("/dev/zero");
        close(fd);
        sum += S_ISCHR(info.st_mode) + (uint64_t)buffer[rounds % 512];
    }
    return sum;
}

static volatile sig_atomic_t handled;
static void handle(int signal) { handled += signal == SIGUSR1; }

static uint64_t signals(long rounds) {
    signal(SIGUSR1, handle);
    while (rounds-- > 0) raise(SIGUSR1);
    return (uint64_t)handled;
}

static char *fault_page;
static void unprotect(int signal) {
    handled += signal == SIGSEGV;
    if (mprotect(fault_page, 4096, PROT_READ | PROT_WRITE)) _exit(1);
}

static uint64_t faults(long rounds) {
    fault_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fault_page == MAP_FAILED) fail("mmap");
    signal(SIGSEGV, unprotect);
    while (rounds-- > 0) {
        if (mprotect(fault_page, 4096, PROT_READ)) fail("mprotect");
        *(volatile char *)fault_page += 1;
    }
    return (uint64_t)handled << 8 | (unsigned char)*fault_page;
}

static pid_t child(void) {
    pid_t id = fork();
    if (id < 0) fail("fork");
    return id;
}

static uint64_t reap(pid_t id) {
    int status;
    if (waitpid(id, &status, 0) != id || !WIFEXITED(status)) fail("waitpid");
    return (uint64_t)WEXITSTATUS(status);
}

static uint64_t forks(long rounds) {
    uint64_t sum = 0;
    for (long i = 0; i < rounds; i++) {
        pid_t id = child();
        if (id == 0) _exit((int)(i & 7));
        sum += reap(id);
    }
    return sum;
}

static uint64_t spawn(const char *program, char **argv, long rounds) {
    uint64_t sum = 0;
    while (rounds-- > 0) {
        pid_t id = child();
        if (id == 0) {
            execve(program, argv, environ);
            _exit(127);
        }
        sum += reap(id) + 1;
    }
    return sum;
}

// This very program, which is linked statically, with work that takes no time.
static uint64_t exec_static(long rounds) {
    char *argv[] = {"kernel", "getppid", "1", NULL};
    int out = dup(1), null = open("/dev/null", O_WRONLY);
    fflush(stdout);
    dup2(null, 1);
    uint64_t result = spawn("/proc/self/exe", argv, rounds);
    dup2(out, 1);
    return result;
}

static uint64_t exec_dynamic(long rounds) {
    char *argv[] = {"true", NULL};
    return spawn("/bin/true", argv, rounds);
}

static void must_read(int fd, void *to, size_t size) {
    for (size_t have = 0; have < size;) {
        ssize_t n = read(fd, (char *)to + have, size - have);
        if (n <= 0) fail("read");
        have += (size_t)n;
    }
}

static uint64_t ping_pong(long rounds) {
    int there[2], back[2];
    uint64_t value = 1;
    if (pipe(there) || pipe(back)) fail("pipe");
    pid_t id = child();
    if (id == 0) {
        for (long i = 0; i < rounds; i++) {
            must_read(there[0], &value, sizeof value);
            value = mix(value, 1);
            if (write(back[1], &value, sizeof value) != sizeof value) _exit(1);
        }
        _exit(0);
    }
    for (long i = 0; i < rounds; i++) {
        if (write(there[1], &value, sizeof value) != sizeof value) fail("write");
        must_read(back[0], &value, sizeof value);
    }
    return value + reap(id);
}

static uint64_t bulk(long rounds) {
    enum { CHUNK = 64 << 10 };
    int ends[2];
    char *buffer = get(CHUNK);
    memset(buffer, 7, CHUNK);
    if (pipe(ends)) fail("pipe");
    pid_t id = child();
    if (id == 0) {
        for (long i = 0; i < rounds; i++)
            if (write(ends[1], buffer, CHUNK) != CHUNK) _exit(1);
        _exit(0);
    }
    uint64_t sum = 0;
    for (long i = 0; i < rounds; i++) {
        must_read(ends[0], buffer, CHUNK);
        sum += (uint64_t)buffer[i % CHUNK];
    }
    return sum + reap(id);
}

static uint64_t mappings(long rounds) {
    enum { SIZE = 256 << 10 };
    uint64_t sum = 0;
    while (rounds-- > 0) {
        char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) fail("mmap");
        for (int i = 0; i < SIZE; i += 4096) memory[i] = (char)i;
        sum += (uint64_t)memory[4096] + 1;
        munmap(memory, SIZE);
    }
    return sum;
}

static uint64_t protections(long rounds) {
    enum { SIZE = 64 << 10 };
    uint64_t sum = 0;
    volatile unsigned char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    while (rounds-- > 0) {
        memory[rounds % 16 * 4096]++;
        if (mprotect((void *)memory, SIZE, PROT_READ)) fail("mprotect");
        sum += memory[4096];
        if (mprotect((void *)memory, SIZE, PROT_READ | PROT_WRITE)) fail("mprotect");
    }
    return sum;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long turn;

static void *answer(void *rounds) {
    for (long i = 0; i < *(long *)rounds; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % 2 == 0) pthread_cond_wait(&changed, &mutex);
        turn++;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static uint64_t switches(long rounds) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, answer, &rounds)) fail("pthread_create");
    for (long i = 0; i < rounds; i++) {
        pthread_mutex_lock(&mutex);
        turn++;
        pthread_cond_signal(&changed);
        while (turn % 2) pthread_cond_wait(&changed, &mutex);
        pthread_mutex_unlock(&mutex);
    }
    pthread_join(thread, NULL);
    return (uint64_t)turn;
}

static const struct work list[] = {
    {"getppid", getppid_loop},    {"files", files},         {"signals", signals},   {"faults", faults},
    {"fork", forks},              {"exec-static", exec_static}, {"exec-dynamic", exec_dynamic}, {"ping-pong", ping_pong},
    {"bulk", bulk},               {"mappings", mappings},   {"protections", protections}, {"switches", switches},
};
MAIN(list)
