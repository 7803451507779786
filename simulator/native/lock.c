#include "producer.h"

#include <time.h>

static pthread_mutex_t client = PTHREAD_MUTEX_INITIALIZER; /* always taken before the other */
static pthread_mutex_t state = PTHREAD_MUTEX_INITIALIZER;
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
    pthread_mutex_lock(&state);
}

void producer_unlock(void) { pthread_mutex_unlock(&state); }

GC_ERROR producer_enter(void) {
    pthread_mutex_lock(&client);
    producer_lock();
    return is_initialized ? GC_ERR_SUCCESS : fail(GC_ERR_NOT_INITIALIZED, "GCInitLib was not called");
}

void producer_leave(void) {
    producer_unlock();
    pthread_mutex_unlock(&client);
}

void producer_initialize(bool initialized) { is_initialized = initialized; }

void producer_wait_until(uint64_t deadline_ns) {
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                .tv_nsec = (long)(deadline_ns % 1000000000u)};
    pthread_cond_timedwait(&changed, &state, &deadline);
}

void producer_wait_as_client_until(uint64_t deadline_ns) {
    pthread_mutex_unlock(&client);
    producer_wait_until(deadline_ns);
    pthread_mutex_unlock(&state);
    pthread_mutex_lock(&client);
    pthread_mutex_lock(&state);
}

void producer_changed(void) { pthread_cond_broadcast(&changed); }

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
