#include "producer.h"

#include <time.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool is_initialized;

static void create_condition(void) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void producer_lock(void) {
    pthread_once(&once, create_condition);
    pthread_mutex_lock(&mutex);
}

void producer_unlock(void) { pthread_mutex_unlock(&mutex); }

GC_ERROR producer_enter(void) {
    producer_lock();
    return is_initialized ? GC_ERR_SUCCESS : fail(GC_ERR_NOT_INITIALIZED, "GCInitLib was not called");
}

bool producer_initialize(bool initialized) {
    bool before = is_initialized;
    is_initialized = initialized;
    return before;
}

void producer_wait_until(uint64_t deadline_ns) {
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                .tv_nsec = (long)(deadline_ns % 1000000000u)};
    pthread_cond_timedwait(&changed, &mutex, &deadline);
}

void producer_changed(void) { pthread_cond_broadcast(&changed); }

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
