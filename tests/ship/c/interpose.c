/* Preloaded: counts calls that take memory from the system or start a thread, while told to. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

int counting;
int counted;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

void *malloc(size_t n)
{
    counted += counting;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
    counted += counting;
    return __libc_calloc(n, m);
}

void *realloc(void *p, size_t n)
{
    counted += counting;
    return __libc_realloc(p, n);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    void *(*real)(void *, size_t, int, int, int, off_t);
    *(void **)&real = dlsym(RTLD_NEXT, "mmap");
    counted += counting;
    return real(at, n, protection, flags, fd, offset);
}

int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    counted += counting;
    return real(t, a, f, x);
}
