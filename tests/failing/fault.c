/* Faults of the machine, put between a process and the C library by LD_PRELOAD.
 *
 * The directory in FAULTS says which, while a file of that name is in it:
 *
 *   eio    a process id and a path's end: fsync and fdatasync of such files fail with EIO
 *   kill   the same: the process is killed as soon as a sync of such a file has succeeded; once
 *   clock  a process id and a number of seconds, by which the clock of the day is moved
 *   passed the same for the monotonic clocks, as if so much time had passed; not for a process whose threads
 *          wait with time limits, since the kernel goes by its own clock
 *
 * The process id 0 means every process. Each fault that happened is a line in the file `happened`: what, the process, the path.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void name_of(char *path, const char *fault)
{
    const char *directory = getenv("FAULTS");
    snprintf(path, PATH_MAX, "%s/%s", directory == NULL ? "" : directory, fault);
}

/* What a fault's file says; 0 when there is none. */
static int asked(const char *fault, char *text, size_t size)
{
    char path[PATH_MAX];
    name_of(path, fault);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t got = read(file, text, size - 1);
    close(file);
    if (got <= 0)
        return 0;
    text[got] = '\0';
    return 1;
}

/* What follows the process id in a fault's text; NULL when it is not for this process. */
static char *for_us(char *text)
{
    char *end;
    long process = strtol(text, &end, 10);
    return process == 0 || process == getpid() ? end + 1 : NULL;
}

static int meant(const char *fault, int fd, char *path)
{
    char wanted[256], link[64], *end;
    if (!asked(fault, wanted, sizeof wanted) || (end = for_us(wanted)) == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    size_t end_length = strlen(end);
    if (length < (ssize_t)end_length)
        return 0;
    path[length] = '\0';
    return strcmp(path + length - end_length, end) == 0;
}

static void note(const char *fault, const char *about)
{
    char path[PATH_MAX], line[PATH_MAX + 64];
    name_of(path, "happened");
    int length = snprintf(line, sizeof line, "%s %d %s\n", fault, (int)getpid(), about);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0 || write(file, line, (size_t)length) != length)
        abort();
    close(file);
}

static int synced(const char *function, int fd)
{
    char path[PATH_MAX];
    if (meant("eio", fd, path)) {
        note("eio", path);
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, function);
    int result = real(fd);
    if (result == 0 && meant("kill", fd, path)) {
        char trigger[PATH_MAX];
        name_of(trigger, "kill");
        /* Of several processes that come here only one is meant. */
        if (unlink(trigger) == 0) {
            note("kill", path);
            kill(getpid(), SIGKILL);
        }
    }
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }

int fdatasync(int fd) { return synced("fdatasync", fd); }

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int saved = errno, result = real(clock, time);
    char text[64], *seconds = NULL;
    if (result == 0 && asked(clock == CLOCK_REALTIME ? "clock" : "passed", text, sizeof text)
        && (seconds = for_us(text)) != NULL && clock != CLOCK_PROCESS_CPUTIME_ID && clock != CLOCK_THREAD_CPUTIME_ID)
        time->tv_sec += atol(seconds);
    errno = saved;
    return result;
}
