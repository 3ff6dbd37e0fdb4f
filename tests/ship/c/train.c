/* Runs inference and training steps in the caller's memory, counting what the system is asked for.
 * Prints the bits of every result. Arguments: threads, 1 to pass a parallel_for of its own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libmlp.h"

#define BATCH 13
#define STEPS 5

/* Defined by the interposer; counting is off where it is not loaded. */
#if defined(__GNUC__)
__attribute__((weak)) extern int counting;
__attribute__((weak)) extern int counted;
#endif

static uint32_t seed = 1;

static float next(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 16777216.0f - 0.5f;
}

static void show(const char *name, const float *x, int n)
{
    printf("%s", name);
    for (int k = 0; k < n; k++) {
        uint32_t bits;
        memcpy(&bits, x + k, 4);
        printf(" %08" PRIx32, bits);
    }
    printf("\n");
}

static void serial(void *user, mlp_part function, void *argument, int32_t parts)
{
    ++*(int *)user;
    for (int32_t part = parts - 1; part >= 0; part--)
        function(argument, part, parts);
}

static void check(mlp_context *context, int32_t code)
{
    if (code != MLP_OK) {
        fprintf(stderr, "%s: %s\n", mlp_error_text(code), mlp_last_error(context));
        exit(1);
    }
}

static void *block(uint64_t bytes)
{
    void *p = aligned_alloc(64, (size_t)(bytes + 63) / 64 * 64);
    memset(p, 0x5a, (size_t)bytes);
    return p;
}

int main(int argc, char **argv)
{
    static float x[BATCH * 20], t[BATCH * 4], y[BATCH * 4], loss;
    int forks = 0;
    mlp_dims dims = { BATCH };
    mlp_options options = MLP_OPTIONS;
    mlp_context *context = malloc((size_t)mlp_context_bytes());
    options.threads = argc > 1 ? atoi(argv[1]) : 1;
    if (argc > 2 && atoi(argv[2])) {
        options.parallel_for = serial;
        options.user = &forks;
    }
    options.arena_bytes = mlp_arena_bytes(&dims);
    options.arena = block(options.arena_bytes);
    options.state_bytes = mlp_state_bytes();
    options.state = block(options.state_bytes);
    for (int k = 0; k < BATCH * 20; k++)
        x[k] = next();
    for (int k = 0; k < BATCH * 4; k++)
        t[k] = next();

    if (&counting)
        counting = options.threads < 2 || options.parallel_for;
    check(context, mlp_init(context, &options));
    if (&counting)
        counting = 1;
    for (int step = 0; step < STEPS; step++) {
        int rows = 1 + step * 3;
        mlp_infer_args infer = { rows, x, y };
        mlp_train_step_args train = { BATCH, x, t, &loss };
        check(context, mlp_infer(context, &infer));
        check(context, mlp_train_step(context, &train));
        if (&counting)
            counting = 0;
        show("y", y, rows * 4);
        show("loss", &loss, 1);
        if (&counting)
            counting = 1;
    }
    {
        static float w[16 * 4];
        check(context, mlp_get_variable(context, mlp_find_variable("out/w"), w, sizeof w));
        check(context, mlp_close(context));
        if (&counting)
            counting = 0;
        show("w", w, 16 * 4);
    }
    if (&counting)
        printf("counted %d\n", counted);
    if (options.parallel_for)
        printf("forks %d\n", forks);
    free(options.arena);
    free(options.state);
    free(context);
    return 0;
}
