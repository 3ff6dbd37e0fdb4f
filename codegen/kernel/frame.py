"""The native frame: the only argument of a program's entry points, by byte offsets.

     0 i64 error word    8 ptr parallel_for   16 ptr user      24 i64 threads   32 ptr variables[]
    40 ptr constants[]  48 ptr prepared       56 ptr arena     64 ptr profile   72 ptr host
    80 ptr arguments[]: inputs, then outputs; then i64 dims[]: those given, then those computed

The error word is NO_ERROR, or site << INDEX_BITS | index: the smallest of a run is reported.

`profile`, where it is not null, points to i64s that a run fills with readings of the CPU's clock:
the last one, that at the start, then for each of the program's `timed` steps the ticks it took and
how often it ran.

`host`, where it is not null, is `void host(ptr user, i64 number, ptr data, ptr dims)`: it gets the
values of the program's `reports` as soon as they are there, on the thread that runs the program.
"""

PARALLEL_FOR, USER, THREADS, VARIABLES, CONSTANTS = 8, 16, 24, 32, 40
PREPARED, ARENA, PROFILE, HOST, ARGUMENTS = 48, 56, 64, 72, 80

# before a dimension's name: the output that says how large others are. The tab keeps it apart from
# outputs that users name, in printable text
TOLD = "size of\t"

NO_ERROR = (1 << 64) - 1
INDEX_BITS = 44
