/* A disk that fails at will, for a process and its children: LD_PRELOAD=disk.so.

DISK says where and what, words apart by blanks: PREFIX COUNTERS LOG ACTION KIND NTH TIMES ERRNO.
Calls on paths (or open files) below PREFIX are counted for each kind, in the file COUNTERS that all
processes share; LOG gets a line for each, or is "-". ACTION: `none`; `fail`: calls NTH to NTH +
TIMES - 1 of KIND (`any`: of all kinds) fail with ERRNO; `kill`, `stop`: the whole process group gets
SIGKILL or SIGSTOP before that call. disk_set() sets all this anew, for a process that has forked. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OPEN, READ, WRITE, PWRITE, FSYNC, RENAME, LINK, MKDIR, UNLINK, TRUNCATE, LIST, STAT, KINDS };
static const char *names[] = {"open", "read", "write", "pwrite", "fsync", "rename", "link", "mkdir",
                              "unlink", "truncate", "readdir", "stat", "any"};

static char prefix[PATH_MAX], action[16];
static int kind_wanted, number, log_to = -1;
static long nth, times;
static long none[KINDS + 1], *counts = none;

void disk_set(const char *said) {
    char counters[PATH_MAX], log[PATH_MAX], kind[16];
    prefix[0] = 0;
    if (log_to >= 0) syscall(SYS_close, log_to);
    log_to = -1;
    if (!said || sscanf(said, "%4095s %4095s %4095s %15s %15s %ld %ld %d", prefix, counters, log,
                        action, kind, &nth, &times, &number) != 8) {
        prefix[0] = 0;
        return;
    }
    for (kind_wanted = 0; kind_wanted < KINDS && strcmp(kind, names[kind_wanted]);) kind_wanted++;
    int shared = syscall(SYS_openat, AT_FDCWD, counters, O_RDWR | O_CLOEXEC, 0);
    void *found = shared < 0 ? MAP_FAILED
                             : mmap(0, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
    if (shared >= 0) syscall(SYS_close, shared);
    counts = found == MAP_FAILED ? none : found;
    if (strcmp(log, "-"))
        log_to = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
}

__attribute__((constructor)) static void begin(void) { disk_set(getenv("DISK")); }

/* The path that a call means: relative to a folder's descriptor, to the working folder, or whole. */
static const char *whole(int folder, const char *path, char *room) {
    if (path && path[0] == '/') return path;
    char link[64];
    if (folder == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    long n = syscall(SYS_readlinkat, AT_FDCWD, link, room, PATH_MAX - 1);
    if (n < 0) return 0;
    room[n] = 0;
    if (path && path[0]) snprintf(room + n, PATH_MAX - n, "/%s", path);
    return room;
}

/* True if the call shall fail, errno set; `other` is the second path of a rename or link. */
static int hit(int kind, int folder, const char *path, const char *other) {
    if (!prefix[0]) return 0;
    int before = errno;
    char room[2 * PATH_MAX];
    const char *found = whole(folder, path, room);
    size_t n = strlen(prefix);
    if (!found || strncmp(found, prefix, n) || (found[n] && found[n] != '/')) {
        errno = before;
        return 0;
    }
    long mine = __sync_add_and_fetch(&counts[kind], 1);
    long all = __sync_add_and_fetch(&counts[KINDS], 1);
    if (log_to >= 0) {
        char line[3 * PATH_MAX];
        int size = snprintf(line, sizeof line, "%s\t%s\t%s\n", names[kind], found + n,
                            other && !strncmp(other, prefix, n) ? other + n : "");
        syscall(SYS_write, log_to, line, size);
    }
    errno = before;
    long at = kind_wanted == KINDS ? all : kind_wanted == kind ? mine : 0;
    if (at < nth || at >= nth + times || !strcmp(action, "none")) return 0;
    if (!strcmp(action, "fail")) {
        errno = number;
        return 1;
    }
    kill(0, strcmp(action, "stop") ? SIGKILL : SIGSTOP);
    return 0;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name);

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...) \
        va_list more; \
        va_start(more, flags); \
        int mode = va_arg(more, int); \
        va_end(more); \
        return hit(OPEN, AT_FDCWD, path, 0) ? -1 : real(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)
#define OPENS_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(int, name, int, const char *, int, ...) \
        va_list more; \
        va_start(more, flags); \
        int mode = va_arg(more, int); \
        va_end(more); \
        return hit(OPEN, folder, path, 0) ? -1 : real(folder, path, flags, mode); \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

ssize_t read(int file, void *data, size_t n) {
    REAL(ssize_t, read, int, void *, size_t)
    return hit(READ, file, 0, 0) ? -1 : real(file, data, n);
}
ssize_t write(int file, const void *data, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t)
    return hit(WRITE, file, 0, 0) ? -1 : real(file, data, n);
}
#define READS_AT(name) \
    ssize_t name(int file, void *data, size_t n, off_t at) { \
        REAL(ssize_t, name, int, void *, size_t, off_t) \
        return hit(READ, file, 0, 0) ? -1 : real(file, data, n, at); \
    }
READS_AT(pread)
READS_AT(pread64)
#define WRITES_AT(name) \
    ssize_t name(int file, const void *data, size_t n, off_t at) { \
        REAL(ssize_t, name, int, const void *, size_t, off_t) \
        return hit(PWRITE, file, 0, 0) ? -1 : real(file, data, n, at); \
    }
WRITES_AT(pwrite)
WRITES_AT(pwrite64)
#define ON_FILE(kind, name) \
    int name(int file) { \
        REAL(int, name, int) \
        return hit(kind, file, 0, 0) ? -1 : real(file); \
    }
ON_FILE(FSYNC, fsync)
ON_FILE(FSYNC, fdatasync)
#define CUTS(name) \
    int name(int file, off_t n) { \
        REAL(int, name, int, off_t) \
        return hit(TRUNCATE, file, 0, 0) ? -1 : real(file, n); \
    }
CUTS(ftruncate)
CUTS(ftruncate64)
#define ALLOCATES(name) \
    int name(int file, int mode, off_t at, off_t n) { \
        REAL(int, name, int, int, off_t, off_t) \
        return hit(TRUNCATE, file, 0, 0) ? -1 : real(file, mode, at, n); \
    }
ALLOCATES(fallocate)
ALLOCATES(fallocate64)
#define ON_TWO(kind, name) \
    int name(const char *one, const char *other) { \
        REAL(int, name, const char *, const char *) \
        return hit(kind, AT_FDCWD, one, other) ? -1 : real(one, other); \
    }
ON_TWO(RENAME, rename)
ON_TWO(LINK, link)
int renameat(int from, const char *one, int to, const char *other) {
    REAL(int, renameat, int, const char *, int, const char *)
    return hit(RENAME, from, one, other) ? -1 : real(from, one, to, other);
}
int linkat(int from, const char *one, int to, const char *other, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int)
    return hit(LINK, from, one, other) ? -1 : real(from, one, to, other, flags);
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t)
    return hit(MKDIR, AT_FDCWD, path, 0) ? -1 : real(path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(int, mkdirat, int, const char *, mode_t)
    return hit(MKDIR, folder, path, 0) ? -1 : real(folder, path, mode);
}
#define REMOVES(name) \
    int name(const char *path) { \
        REAL(int, name, const char *) \
        return hit(UNLINK, AT_FDCWD, path, 0) ? -1 : real(path); \
    }
REMOVES(unlink)
REMOVES(rmdir)
int unlinkat(int folder, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int)
    return hit(UNLINK, folder, path, 0) ? -1 : real(folder, path, flags);
}
DIR *opendir(const char *path) {
    REAL(DIR *, opendir, const char *)
    return hit(LIST, AT_FDCWD, path, 0) ? 0 : real(path);
}
DIR *fdopendir(int folder) {
    REAL(DIR *, fdopendir, int)
    return hit(LIST, folder, 0, 0) ? 0 : real(folder);
}
#define STATS(name, type) \
    int name(const char *path, struct type *found) { \
        REAL(int, name, const char *, struct type *) \
        return hit(STAT, AT_FDCWD, path, 0) ? -1 : real(path, found); \
    }
STATS(stat, stat)
STATS(stat64, stat64)
STATS(lstat, stat)
STATS(lstat64, stat64)
#define STATS_AT(name, type) \
    int name(int folder, const char *path, struct type *found, int flags) { \
        REAL(int, name, int, const char *, struct type *, int) \
        return hit(STAT, folder, path, 0) ? -1 : real(folder, path, found, flags); \
    }
STATS_AT(fstatat, stat)
STATS_AT(fstatat64, stat64)
