/* Calls the network that mnist.py exported, and goes on training inside the library.
 *
 *     cc -std=c99 -O2 mnist.c -I. -L. -lmnist -Wl,-rpath,. -o mnist && ./mnist FOLDER
 *
 * Prints what mnist.py prints, bit for bit: the test accuracy as exported, and after one more epoch
 * in the order of the file. All memory is this program's; the library starts no thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "libmnist.h"

enum { IMAGE = 28 * 28, TRAIN_BATCH = 128, TEST_BATCH = 1000 };

static void *need(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

/* Memory at a multiple of 64 bytes, as arena and state want it; C99 has no aligned_alloc. */
static void *need_aligned(size_t bytes)
{
    uintptr_t start = (uintptr_t)need(malloc(bytes + 63));
    return (void *)((start + 63) / 64 * 64);
}

/* The payload of an IDX file; `count` is its first dimension. */
static uint8_t *read_idx(const char *folder, const char *name, size_t item, size_t *count)
{
    char path[4096];
    uint8_t head[16];
    size_t dims = item > 1 ? 16 : 8;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL || fread(head, 1, dims, file) != dims) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    *count = (size_t)head[4] << 24 | (size_t)head[5] << 16 | (size_t)head[6] << 8 | head[7];
    uint8_t *data = need(malloc(*count * item));
    if (fread(data, item, *count, file) != *count) {
        fprintf(stderr, "%s is truncated\n", path);
        exit(1);
    }
    fclose(file);
    return data;
}

static void check(const mnist_context *context, int32_t code)
{
    if (code != MNIST_OK) {
        fprintf(stderr, "%s: %s\n", mnist_error_text(code), mnist_last_error(context));
        exit(1);
    }
}

static void report(mnist_context *context, const uint8_t *images, const uint8_t *labels, size_t n)
{
    static float logits[TEST_BATCH * 10];
    static int64_t predicted[TEST_BATCH];
    uint64_t digest = UINT64_C(0xcbf29ce484222325);
    size_t right = 0;
    for (size_t k = 0; k < n; k += TEST_BATCH) {
        int64_t batch = n - k < TEST_BATCH ? (int64_t)(n - k) : TEST_BATCH;
        mnist_infer_args args = { batch, images + k * IMAGE, logits, predicted };
        check(context, mnist_infer(context, &args));
        for (int64_t i = 0; i < batch; i++)
            right += predicted[i] == labels[k + (size_t)i];
        for (int64_t i = 0; i < batch * 10; i++) {
            union { float f; uint32_t u; } word = { logits[i] };
            digest = (digest ^ word.u) * UINT64_C(0x100000001b3);
        }
    }
    printf("test accuracy %.2f %%, bits %016" PRIx64 "\n", 100.0 * (double)right / (double)n, digest);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    size_t n, tests, same;
    uint8_t *images = read_idx(argv[1], "train-images-idx3-ubyte", IMAGE, &n);
    uint8_t *labels = read_idx(argv[1], "train-labels-idx1-ubyte", 1, &same);
    uint8_t *test_images = read_idx(argv[1], "t10k-images-idx3-ubyte", IMAGE, &tests);
    uint8_t *test_labels = read_idx(argv[1], "t10k-labels-idx1-ubyte", 1, &same);

    mnist_dims largest = { TEST_BATCH };
    mnist_options options = MNIST_OPTIONS;
    options.arena_bytes = mnist_arena_bytes(&largest);
    options.arena = need_aligned(options.arena_bytes);
    options.state_bytes = mnist_state_bytes();
    options.state = need_aligned(options.state_bytes);
    mnist_context *context = need(malloc(mnist_context_bytes()));
    check(context, mnist_init(context, &options));
    printf("as exported: ");
    report(context, test_images, test_labels, tests);

    float loss = 0;
    for (size_t k = 0; k < n; k += TRAIN_BATCH) {
        int32_t label[TRAIN_BATCH];
        int64_t batch = n - k < TRAIN_BATCH ? (int64_t)(n - k) : TRAIN_BATCH;
        for (int64_t i = 0; i < batch; i++)
            label[i] = labels[k + (size_t)i];
        mnist_train_step_args args = { batch, images + k * IMAGE, label, &loss };
        check(context, mnist_train_step(context, &args));
    }
    printf("one more epoch in file order: loss %.6f, ", (double)loss);
    report(context, test_images, test_labels, tests);
    check(context, mnist_close(context));
    return 0;
}
