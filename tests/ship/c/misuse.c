/* Every mistake a caller can make has a code and a text, and changes nothing. One line for each:
 * what was done, the code, the text. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libmlp.h"

static mlp_context *context;

static void report(const char *what, int32_t code)
{
    printf("%s|%d|%s\n", what, (int)code, mlp_last_error(context));
}

int main(void)
{
    static float x[3 * 20], y[3 * 4], t[3 * 4], loss, w[16 * 4], before[16 * 4];
    static char text[64];
    mlp_dims dims = { 3 };
    mlp_options options = MLP_OPTIONS;
    mlp_infer_args args = { 3, x, y };
    mlp_train_step_args train = { 3, x, t, &loss };
    char *memory = aligned_alloc(64, (size_t)mlp_context_bytes() + 64);
    char *arena = aligned_alloc(64, 1 << 20);
    char *saved = malloc((size_t)mlp_saved_bytes());
    int32_t out = mlp_find_variable("out/w");

    context = (mlp_context *)memory;
    memset(memory, 0, (size_t)mlp_context_bytes());
    report("run before init", mlp_infer(context, &args));
    report("close before init", mlp_close(context));
    printf("init of NULL|%d|\n", (int)mlp_init(NULL, NULL));
    printf("init of odd|%d|\n", (int)mlp_init((mlp_context *)(memory + 8), NULL));
    printf("infer of NULL|%d|%s\n", (int)mlp_infer(NULL, &args), mlp_last_error(NULL));

    options.signature ^= 2;
    report("header of another export", mlp_init(context, &options));
    options.signature ^= 2;
    options.threads = -1;
    report("negative threads", mlp_init(context, &options));
    options.threads = 0;
    options.arena_bytes = 64;
    report("bytes of no arena", mlp_init(context, &options));
    options.arena = arena + 8;
    report("odd arena", mlp_init(context, &options));
    options.arena = arena;
    options.largest = dims;
    report("small arena for largest", mlp_init(context, &options));
    options.largest.batch = -4;
    report("largest", mlp_init(context, &options));
    options.largest.batch = 0;
    options.state = arena;
    report("small state", mlp_init(context, &options));
    options.state = arena + 4;
    report("odd state", mlp_init(context, &options));
    options.state = NULL;
    options.weights = arena;
    options.weights_bytes = 4;
    report("short weights", mlp_init(context, &options));
    options.weights = NULL;
    options.weights_path = "/nonexistent/weights";
    report("no such file", mlp_init(context, &options));
    options.weights_path = "/dev/null";
    report("empty file", mlp_init(context, &options));
    options.weights_path = NULL;
    options.share = (mlp_context *)arena;
    memset(arena, 0, 4096);
    report("share of no context", mlp_init(context, &options));
    options.share = NULL;

    options.arena_bytes = mlp_arena_bytes(&dims);
    report("init", mlp_init(context, &options));
    mlp_get_variable(context, out, before, sizeof before);
    report("NULL args", mlp_infer(context, NULL));
    args.x = NULL;
    report("NULL input", mlp_infer(context, &args));
    args.x = (const float *)(const void *)(text + 1);
    report("odd input", mlp_infer(context, &args));
    args.x = x;
    args.pred = NULL;
    report("NULL output", mlp_infer(context, &args));
    args.pred = y;
    args.batch = 0;
    report("zero batch", mlp_infer(context, &args));
    args.batch = -1;
    report("negative batch", mlp_infer(context, &args));
    args.batch = INT64_MAX;
    report("huge batch", mlp_infer(context, &args));
    args.batch = INT64_MAX / 800;
    report("large batch", mlp_infer(context, &args));
    args.batch = 300;
    report("batch beyond arena", mlp_infer(context, &args));
    args.batch = 3;
    train.batch = 300;
    report("training beyond arena", mlp_train_step(context, &train));
    train.batch = 3;
    report("number -1", mlp_get_variable(context, -1, w, sizeof w));
    report("number 99", mlp_set_variable(context, 99, w, sizeof w));
    report("NULL variable", mlp_set_variable(context, out, NULL, sizeof w));
    report("short variable", mlp_set_variable(context, out, w, sizeof w - 1));
    printf("no such name|%d|\n", (int)mlp_find_variable("w0"));
    printf("NULL name|%d|\n", (int)mlp_find_variable(NULL));
    report("small save", mlp_save_state(context, saved, mlp_saved_bytes() - 1));
    report("save", mlp_save_state(context, saved, mlp_saved_bytes()));
    report("NULL load", mlp_load_state(context, NULL, 100));
    report("truncated", mlp_load_state(context, saved, mlp_saved_bytes() - 1));
    report("cut header", mlp_load_state(context, saved, 20));
    saved[20] ^= 1;
    report("damaged header", mlp_load_state(context, saved, mlp_saved_bytes()));
    saved[20] ^= 1;
    saved[7] = (char)0x80;
    report("damaged length", mlp_load_state(context, saved, mlp_saved_bytes()));
    saved[7] = 0;
    printf("group -1|%d|\n", (int)mlp_tensor_count(-1));
    {
        mlp_tensor info;
        printf("tensor 99|%d|\n", (int)mlp_tensor_info(MLP_VARIABLES, 99, &info));
        printf("tensor -1|%d|\n", (int)mlp_tensor_info(MLP_VARIABLES, -1, &info));
        printf("tensor NULL|%d|\n", (int)mlp_tensor_info(MLP_VARIABLES, 0, NULL));
        printf("tensor|%d|", (int)mlp_tensor_info(MLP_INFER_INPUTS, 0, &info));
        printf("%s %d %d %d\n", info.name, (int)info.dtype == MLP_FLOAT32, (int)info.shape[0],
               (int)info.shape[1]);
    }
    mlp_get_variable(context, out, w, sizeof w);
    printf("variables changed|%d|\n", memcmp(w, before, sizeof w) != 0);
    printf("no dims|%d|\n", (int)(mlp_arena_bytes(NULL) + mlp_infer_arena_bytes(NULL)));
    dims.batch = 0;
    printf("bad dims|%d|\n", (int)mlp_arena_bytes(&dims));

    report("run", mlp_infer(context, &args));
    report("train", mlp_train_step(context, &train));
    mlp_get_variable(context, out, w, sizeof w);
    printf("trained|%d|\n", memcmp(w, before, sizeof w) != 0);
    report("load", mlp_load_state(context, saved, mlp_saved_bytes()));
    mlp_get_variable(context, out, w, sizeof w);
    printf("restored|%d|\n", memcmp(w, before, sizeof w) == 0);
    mlp_train_step(context, &train);
    report("reset", mlp_reset(context));
    mlp_get_variable(context, out, w, sizeof w);
    printf("as at first|%d|\n", memcmp(w, before, sizeof w) == 0);
    report("close", mlp_close(context));
    report("run after close", mlp_infer(context, &args));
    printf("unknown code|0|%s\n", mlp_error_text(12345));
    free(memory);
    free(arena);
    free(saved);
    return 0;
}
