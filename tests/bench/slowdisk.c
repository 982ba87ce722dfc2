/* A disk that takes 5 ms for each sync, before the real one: gcc -shared -fPIC -o slowdisk.so slowdisk.c, LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int late(const char *name, int file) {
    const struct timespec pause = {0, 5 * 1000 * 1000};
    nanosleep(&pause, 0);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(file);
}

int fsync(int file) { return late("fsync", file); }
int fdatasync(int file) { return late("fdatasync", file); }
