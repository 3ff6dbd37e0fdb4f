/* Contexts in several threads at once: each trains its own variables; then all share one owner's.
 * Prints nothing but differences; the exit status tells. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libmlp.h"

#define THREADS 4
#define ROUNDS 200

static float x[7 * 20], t[7 * 4], results[THREADS][7 * 4], losses[THREADS];
static mlp_context *contexts[THREADS];
static int busy;

static void *train(void *at)
{
    int k = (int)(intptr_t)at;
    mlp_train_step_args train = { 7, x, t, &losses[k] };
    mlp_infer_args infer = { 7, x, results[k] };
    for (int round = 0; round < ROUNDS; round++)
        if (mlp_train_step(contexts[k], &train) || mlp_infer(contexts[k], &infer))
            return (void *)1;
    return NULL;
}

static void *infer(void *at)
{
    int k = (int)(intptr_t)at;
    mlp_infer_args infer = { 7, x, results[k] };
    for (int round = 0; round < ROUNDS; round++)
        if (mlp_infer(contexts[k], &infer))
            return (void *)1;
    return NULL;
}

static void *same(void *unused)
{
    float y[7 * 4];
    mlp_infer_args infer = { 7, x, y };
    (void)unused;
    for (int round = 0; round < ROUNDS; round++) {
        int32_t code = mlp_infer(contexts[0], &infer);
        if (code == MLP_BUSY)
            __atomic_add_fetch(&busy, 1, __ATOMIC_RELAXED);
        else if (code || memcmp(y, results[0], sizeof y))
            return (void *)1;
    }
    return NULL;
}

static int all(void *(*body)(void *))
{
    pthread_t threads[THREADS];
    int bad = 0;
    for (int k = 0; k < THREADS; k++)
        pthread_create(&threads[k], NULL, body, (void *)(intptr_t)k);
    for (int k = 0; k < THREADS; k++) {
        void *result;
        pthread_join(threads[k], &result);
        bad |= result != NULL;
    }
    return bad;
}

static int differ(void)
{
    for (int k = 1; k < THREADS; k++)
        if (memcmp(results[0], results[k], sizeof results[0]) || losses[0] != losses[k])
            return 1;
    return 0;
}

int main(void)
{
    mlp_options options = MLP_OPTIONS;
    for (int k = 0; k < 7 * 20; k++)
        x[k] = (float)(k % 11) / 11.0f;
    for (int k = 0; k < 7 * 4; k++)
        t[k] = (float)(k % 3);
    options.threads = 2;
    for (int k = 0; k < THREADS; k++) {
        contexts[k] = malloc((size_t)mlp_context_bytes());
        if (mlp_init(contexts[k], &options))
            return 2;
    }
    if (all(train) || differ())
        return 3;
    for (int k = 1; k < THREADS; k++) {
        if (mlp_close(contexts[k]))
            return 4;
        options.share = contexts[0];
        if (mlp_init(contexts[k], &options))
            return 5;
    }
    memset(results[1], 0, sizeof results[1]);
    if (all(infer) || differ())
        return 6;
    {
        mlp_train_step_args train = { 7, x, t, &losses[0] };
        if (mlp_train_step(contexts[1], &train) != MLP_SHARED_STATE)
            return 7;
        if (mlp_reset(contexts[1]) != MLP_SHARED_STATE)
            return 8;
        if (mlp_reset(contexts[0]) || all(infer) || differ())
            return 9;
    }
    if (all(same))
        return 10;
    for (int k = THREADS - 1; k >= 0; k--) {
        if (mlp_close(contexts[k]))
            return 11;
        free(contexts[k]);
    }
    return 0;
}
