/* Metadata operations per second on a mounted file system: meta FOLDER [FILES]. Before each phase the kernel forgets what
 * it knows of the files, so that each operation reaches the file system's server. Prints "NAME RATE" for each phase, the
 * geometric mean last. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int files = 2000;
static double logs;
static int phases;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void check(int ok, const char *what) {
    if (!ok) {
        printf("failed: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void forget(void) {
    sync();
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
    if (fd >= 0) {
        check(write(fd, "3", 1) == 1, "drop_caches");
        close(fd);
    }
}

static char *name(const char *kind, int i) {
    static char text[2][64];
    static int turn;
    turn = !turn;
    snprintf(text[turn], sizeof text[turn], "%s%05d", kind, i);
    return text[turn];
}

static void do_create(int i) {
    int fd = open(name("f", i), O_CREAT | O_EXCL | O_WRONLY, 0644);
    check(fd >= 0 && write(fd, "content", 7) == 7 && close(fd) == 0, "create");
}
static void do_stat(int i) {
    struct stat s;
    check(stat(name("f", i), &s) == 0 && s.st_size == 7, "stat");
}
static void do_read(int i) {
    char buffer[16];
    int fd = open(name("f", i), O_RDONLY);
    check(fd >= 0 && read(fd, buffer, sizeof buffer) == 7 && close(fd) == 0, "read");
}
static void do_chmod(int i) { check(chmod(name("f", i), 0600) == 0, "chmod"); }
static void do_rename(int i) { check(rename(name("f", i), name("g", i)) == 0, "rename"); }
static void do_link(int i) { check(link(name("g", i), name("h", i)) == 0, "link"); }
static void do_absent(int i) {
    struct stat s;
    check(stat(name("n", i), &s) != 0 && errno == ENOENT, "absent");
}
static void do_unlink(int i) { check(unlink(name("g", i)) == 0, "unlink"); }
static void do_mkdir(int i) { check(mkdir(name("d", i), 0755) == 0, "mkdir"); }
static void do_rmdir(int i) { check(rmdir(name("d", i)) == 0, "rmdir"); }
static void do_list(int i) {
    if (i)
        return;
    /* As `ls -l` does it. */
    DIR *dir = opendir(".");
    struct dirent *entry;
    struct stat s;
    int count = 0;
    while ((entry = readdir(dir)))
        count += stat(entry->d_name, &s) == 0;
    closedir(dir);
    check(count >= files, "list");
}

static void phase(const char *what, void (*work)(int)) {
    forget();
    double start = now();
    for (int i = 0; i < files; i++)
        work(i);
    double rate = files / (now() - start);
    printf("%s %.0f\n", what, rate);
    fflush(stdout);
    logs += log(rate);
    phases++;
}

int main(int argc, char **argv) {
    check(argc > 1 && chdir(argv[1]) == 0, "usage: meta FOLDER [FILES]");
    if (argc > 2)
        files = atoi(argv[2]);
    check(mkdir("meta", 0755) == 0 && chdir("meta") == 0, "mkdir");
    phase("create", do_create);
    phase("stat", do_stat);
    phase("read", do_read);
    phase("list", do_list);
    phase("absent", do_absent);
    phase("chmod", do_chmod);
    phase("rename", do_rename);
    phase("link", do_link);
    phase("unlink", do_unlink);
    phase("mkdir", do_mkdir);
    phase("rmdir", do_rmdir);
    for (int i = 0; i < files; i++)
        unlink(name("h", i));
    check(chdir("..") == 0 && rmdir("meta") == 0, "rmdir");
    printf("mean %.0f\n", exp(logs / phases));
    return 0;
}
