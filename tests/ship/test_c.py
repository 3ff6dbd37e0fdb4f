"""Exported libraries from C: the same bits as the session, in memory and threads of the caller's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import flowmill as fm
import numpy as np
import pytest
from flowmill.codegen.interface import CODE

from .conftest import FLAGS, SOURCES, Shipped, expected, run

Build = Callable[..., Path]


@pytest.mark.parametrize("arguments", [(), ("2",), ("3", "1")], ids=["serial", "pool", "callback"])
def test_training_has_the_session_s_bits(shipped: Shipped, build: Build,
                                         arguments: tuple[str, ...]) -> None:  # fmt: skip
    lines = run(str(build("train")), *arguments).splitlines()
    assert lines[: 2 * 5 + 1] == expected(shipped)


@pytest.mark.parametrize("arguments", [(), ("2",), ("2", "1")], ids=["serial", "pool", "callback"])
def test_nothing_is_allocated_and_no_thread_starts(shipped: Shipped, build: Build, cc: str,
                                                   arguments: tuple[str, ...]) -> None:  # fmt: skip
    """In caller-given memory not even `init` asks the system, but for the pool it is told to open;
    runs ask for nothing. The counter itself is seen to count."""
    counter = shipped.folder / "libcount.so"
    run(cc, "-shared", "-fPIC", "-O1", "-o", str(counter), str(SOURCES / "interpose.c"), "-ldl")
    program = str(build("train"))
    out = run(program, *arguments, env={"LD_PRELOAD": str(counter)})
    assert "counted 0\n" in out
    probe = shipped.folder / "probe.c"
    probe.write_text("#include <stdio.h>\n#include <stdlib.h>\nextern int counting, counted;\n"
                     "int main(void) { void *volatile p; counting = 1; p = malloc(9); counting = 0;"
                     ' free(p); printf("%d", counted); return 0; }\n')  # fmt: skip
    run(cc, str(probe), "-o", str(probe.with_suffix("")), f"-L{shipped.folder}", "-lcount",
        f"-Wl,-rpath,{shipped.folder}")  # fmt: skip
    assert run(str(probe.with_suffix(""))) == "1"


@pytest.mark.parametrize("kind", ["o", "a", "cc"])
def test_other_ways_to_link(shipped: Shipped, build: Build, kind: str, tmp_path: Path) -> None:
    folder = shipped.folder
    if kind == "cc":
        fm.export(shipped.module, tmp_path / "libmlp.so", linker="cc")
        link = [f"-L{tmp_path}", "-lmlp", f"-Wl,-rpath,{tmp_path}"]
    elif kind == "o":
        link = [str(folder / "mlp.o"), str(folder / "mlp_weights.o")]
    else:
        link = [str(folder / "libmlp.a")]
    lines = run(str(build("train", *link, suffix=f"_{kind}"))).splitlines()
    assert lines == expected(shipped)


def test_mistakes(build: Build) -> None:
    rows = [line.split("|") for line in run(str(build("misuse"))).splitlines()]
    got = {what: (int(code), text) for what, code, text in rows}
    codes = {what: code for what, (code, _) in got.items()}
    assert codes == {
        "run before init": CODE["BAD_CONTEXT"], "close before init": CODE["BAD_CONTEXT"],
        "init of NULL": CODE["NULL_ARGUMENT"], "init of odd": CODE["MISALIGNED"],
        "infer of NULL": CODE["NULL_ARGUMENT"], "header of another export": CODE["BAD_HEADER"],
        "negative threads": CODE["BAD_OPTION"], "bytes of no arena": CODE["NULL_ARGUMENT"],
        "odd arena": CODE["ARENA_MISALIGNED"], "small arena for largest": CODE["ARENA_TOO_SMALL"],
        "largest": CODE["BAD_DIMENSION"], "small state": CODE["STATE_TOO_SMALL"],
        "odd state": CODE["MISALIGNED"], "short weights": CODE["BAD_STATE"],
        "no such file": CODE["FILE_ERROR"], "empty file": CODE["FILE_ERROR"],
        "share of no context": CODE["BAD_CONTEXT"], "init": 0, "NULL args": CODE["NULL_ARGUMENT"],
        "NULL input": CODE["NULL_ARGUMENT"], "odd input": CODE["MISALIGNED"],
        "NULL output": CODE["NULL_ARGUMENT"], "zero batch": CODE["BAD_DIMENSION"],
        "negative batch": CODE["BAD_DIMENSION"], "huge batch": CODE["BAD_DIMENSION"],
        "large batch": CODE["ARENA_TOO_SMALL"], "batch beyond arena": CODE["ARENA_TOO_SMALL"],
        "training beyond arena": CODE["ARENA_TOO_SMALL"], "number -1": CODE["NOT_FOUND"],
        "number 99": CODE["NOT_FOUND"], "NULL variable": CODE["NULL_ARGUMENT"],
        "short variable": CODE["BAD_SIZE"], "no such name": -1, "NULL name": -1,
        "small save": CODE["BAD_SIZE"], "save": 0, "NULL load": CODE["NULL_ARGUMENT"],
        "truncated": CODE["BAD_STATE"], "cut header": CODE["BAD_STATE"],
        "damaged header": CODE["BAD_STATE"], "damaged length": CODE["BAD_STATE"], "group -1": -1,
        "tensor 99": CODE["NOT_FOUND"], "tensor -1": CODE["NOT_FOUND"],
        "tensor NULL": CODE["NULL_ARGUMENT"], "tensor": 0, "variables changed": 0, "no dims": 0,
        "bad dims": 0, "run": 0, "train": 0, "trained": 1, "load": 0, "restored": 1, "reset": 0,
        "as at first": 1, "close": 0, "run after close": CODE["BAD_CONTEXT"], "unknown code": 0,
    }  # fmt: skip
    assert got["NULL input"][1] == "args.x: a pointer is NULL"
    assert got["zero batch"][1] == "batch: a dimension is out of its bounds"
    assert got["tensor"][1] == "x 1 -1 20"
    assert got["infer of NULL"][1] == "a pointer is NULL"
    assert got["no such file"][1].startswith("/nonexistent/weights: the file cannot be read")


def test_threads(build: Build) -> None:
    run(str(build("threads")))


def test_only_libc_is_needed(shipped: Shipped) -> None:
    ldd = shutil.which("ldd")
    if ldd is None:
        pytest.skip("no ldd")
    needs = {line.split()[0] for line in run(ldd, str(shipped.library)).splitlines()}
    assert {re.sub(r"\..*", "", Path(n).name) for n in needs} <= {"linux-vdso", "libc", "ld-linux-x86-64",
                                                                  "ld-linux-aarch64"}  # fmt: skip


def test_header_is_c_and_cpp(shipped: Shipped, cc: str, tmp_path: Path) -> None:
    source = '#include "libmlp.h"\n#include "libmlp.h"\n' + (
        "int main() { mlp_options o = MLP_OPTIONS; return o.threads != 0; }\n"
    )
    (tmp_path / "h.c").write_text(source.replace("main()", "main(void)"))
    (tmp_path / "h.cc").write_text(source)
    include = f"-I{shipped.folder}"
    run(cc, *FLAGS, include, "-c", str(tmp_path / "h.c"), "-o", str(tmp_path / "h.o"))
    cpp = shutil.which("g++")
    if cpp is None:
        pytest.skip("no C++ compiler")
    run(cpp, "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-missing-field-initializers",
        include, "-c", str(tmp_path / "h.cc"), "-o", str(tmp_path / "h2.o"))  # fmt: skip


def test_failures_in_kernels_name_the_index_and_the_line(cc: str, tmp_path: Path) -> None:
    with fm.Graph() as g:
        table = fm.variable("table", np.arange(12, dtype="f").reshape(6, 2))
        rows = fm.input("rows", ("n", 3), "int32")
        picked = fm.named(fm.gather(table, rows), "picked")
    fm.export(fm.Module(g, pick=picked), tmp_path / "libpick.so")
    (tmp_path / "pick.c").write_text("""
#include <stdio.h>
#include <stdlib.h>
#include "libpick.h"
int main(void) {
    int32_t rows[6] = { 0, 1, 5, 2, 6, 3 };
    float out[12];
    pick_pick_args args = { 2, rows, out };
    pick_context *c = malloc((size_t)pick_context_bytes());
    int32_t code;
    pick_init(c, NULL);
    code = pick_pick(c, &args);
    printf("%d|%s\\n", (int)code, pick_last_error(c));
    rows[4] = 4;
    code = pick_pick(c, &args);
    printf("%d|%g\\n", (int)code, (double)out[8]);
    pick_close(c);
    free(c);
    return 0;
}
""")
    run(cc, *FLAGS, str(tmp_path / "pick.c"), f"-I{tmp_path}", f"-L{tmp_path}", "-lpick",
        f"-Wl,-rpath,{tmp_path}", "-o", str(tmp_path / "pick"))  # fmt: skip
    first, second = run(str(tmp_path / "pick")).splitlines()
    code, text = first.split("|")
    assert int(code) == CODE["INDEX_RANGE"]
    assert re.fullmatch(
        r"gather: index out of range at element \[1, 1(, 0)?\] \(test_c\.py:\d+\)", text
    )
    assert second == "0|8"


def test_sizes_that_runs_compute(cc: str, tmp_path: Path) -> None:
    """Results are at the beginning of memory for the largest, and the size comes with them."""
    with fm.Graph("few") as graph:
        x, least = fm.input("x", ("n", 2)), fm.input("least", ())
        kept = fm.gather(x, fm.nonzero(x[:, 0] > least)[0])
        places = fm.nonzero(kept[1] < 0)
    module = fm.Module(graph, pick={"kept": kept, "places": places})
    fm.export(module, tmp_path / "libfew.so")
    header = (tmp_path / "libfew.h").read_text()
    assert "float *kept; /* float32 [nonzero, 2], in memory for [n, 2] */" in header
    assert "int64_t *size_of_nonzero; /* what nonzero is, set by the run */" in header
    (tmp_path / "few.c").write_text("""
#include <stdio.h>
#include <stdlib.h>
#include "libfew.h"
int main(void) {
    float x[8] = {1, -2, 3, 4, 5, -6, 7, -8}, least, kept[8];
    int64_t places[2], n, found;
    few_pick_args args = {4, x, &least, kept, places, &n, &found};
    few_context *c = malloc(few_context_bytes());
    few_init(c, NULL);
    for (least = 2; least < 9; least += 4) {
        int code = few_pick(c, &args);
        if (code) printf("%d|%s\\n", code, few_last_error(c));
        else printf("%d %d|%g %g %g|%d\\n", (int)n, (int)found, kept[0], kept[3], kept[4], (int)places[0]);
    }
    few_close(c);
    free(c);
    return 0;
}
""")
    run(cc, *FLAGS, str(tmp_path / "few.c"), f"-I{tmp_path}", f"-L{tmp_path}", "-lfew",
        f"-Wl,-rpath,{tmp_path}", "-o", str(tmp_path / "few"))  # fmt: skip
    first, second = run(str(tmp_path / "few")).splitlines()
    assert first == "3 1|3 -6 7|1"
    assert re.fullmatch(rf"{CODE['SIZE_RANGE']}\|slice: an index is out of range .* \(test_c.py:\d+\)",
                        second)  # fmt: skip
    data = np.array([[1, -2], [3, 4], [5, -6], [7, -8]], np.float32)
    with fm.load(tmp_path / "libfew.so") as library:
        found = library.pick(x=data, least=np.float32(2))
        assert sorted(found) == ["kept", "places"]
        np.testing.assert_array_equal(found["kept"], data[1:])
        np.testing.assert_array_equal(found["places"], [[1]])
        with pytest.raises(fm.RunError, match="a size that the run computed is out of range"):
            library.pick(x=data, least=np.float32(6))
