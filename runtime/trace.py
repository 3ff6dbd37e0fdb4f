"""What FLOWMILL_DEBUG and FLOWMILL_DUMP show of kernels, programs and machine code.

In: the stages of a compilation, as `compile_function` hands them to its watch. Out: text on standard
error (FLOWMILL_DEBUG 4: kernels and program, 5: LLVM, 6: assembly) and files `90-kernels.fm`,
`91-program.fm`, `92-llvm.ll`, `93-asm.s` in the folder of FLOWMILL_DUMP=DIR[:stage,...]. The graph
passes before them are shown by their pipeline.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config
from ..codegen.kernel.program import Program

if TYPE_CHECKING:
    from ..compiler import Watch

# stage -> file, least FLOWMILL_DEBUG that prints it
STAGES = {"kernels": ("90-kernels.fm", 4), "program": ("91-program.fm", 4),
          "llvm": ("92-llvm.ll", 5), "asm": ("93-asm.s", 6)}  # fmt: skip


def joined(*watches: Watch | None) -> Watch | None:
    """One watch for several."""
    present = [w for w in watches if w is not None]

    def watch(stage: str, made: object) -> None:
        for w in present:
            w(stage, made)

    return watch if present else None


def tracer(name: str) -> Watch | None:
    """The watch that settings ask for, or None."""
    debug = config.integer("debug")
    folder, _, wanted = config.setting("dump").partition(":")
    stages = {s for s, (_, least) in STAGES.items() if debug >= least}
    files = {s for s in STAGES if folder and (not wanted or s in wanted.split(","))}
    if not stages | files:
        return None

    def watch(stage: str, made: object) -> None:
        for part, text in texts(stage, made, stages | files):
            if part in stages:
                print(f"# {part} of {name}\n{text}", file=sys.stderr)
            if part in files:
                path = Path(folder)
                path.mkdir(parents=True, exist_ok=True)
                (path / STAGES[part][0]).write_text(text, encoding="utf-8")

    return watch


def texts(stage: str, made: object, wanted: set[str]) -> Iterator[tuple[str, str]]:
    """The wanted texts of a stage: (part, text)."""
    from ..codegen.kernel import program_text, text

    if isinstance(made, Program):
        if "kernels" in wanted:
            yield "kernels", "\n".join(text.show(k) for k in made.kernels)
        if "program" in wanted:
            yield "program", program_text.show_body(made)
    elif stage == "llvm" and isinstance(made, tuple):
        code, target = made
        if "llvm" in wanted:
            yield "llvm", code
        if "asm" in wanted:
            from ..codegen.objects import assembly

            yield "asm", assembly(code, target)
