/* Makes one call of the C library fail, for tests: FAULT="write:20:28" lets the 20th write to a file fail with error 28.
 * Loaded into the program with LD_PRELOAD. Only calls on regular files count; "pread64" cuts the file short with error 0.
 * A negative error is a signal, which is raised before a call that then succeeds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fails(const char *call, int fd, int *error) {
    static int count;
    char name[16];
    int nth;
    struct stat found;
    const char *fault = getenv("FAULT");
    if (!fault || sscanf(fault, "%15[^:]:%d:%d", name, &nth, error) != 3 || strcmp(name, call)) return 0;
    if (fd >= 0 && (fstat(fd, &found) || !S_ISREG(found.st_mode))) return 0;
    if (__atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST) != nth) return 0;
    if (*error >= 0) return 1;
    kill(getpid(), -*error);
    return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(call, fd)                                                                                                 \
    do {                                                                                                               \
        int error;                                                                                                     \
        if (fails(call, fd, &error)) {                                                                                 \
            errno = error;                                                                                             \
            return error ? -1 : 0;                                                                                     \
        }                                                                                                              \
    } while (0)

ssize_t write(int fd, const void *bytes, size_t length) {
    FAIL("write", fd);
    return REAL(write)(fd, bytes, length);
}

ssize_t pread64(int fd, void *bytes, size_t length, off64_t offset) {
    FAIL("pread64", fd);
    return REAL(pread64)(fd, bytes, length, offset);
}

int fsync(int fd) {
    FAIL("fsync", fd);
    return REAL(fsync)(fd);
}

int rename(const char *from, const char *to) {
    FAIL("rename", -1);
    return REAL(rename)(from, to);
}
