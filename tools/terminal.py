"""What commands write on terminals: tables, and progress of long work.

Tables are coloured on a terminal and plain text elsewhere, for other programs to read. Progress
goes to standard error, and only where that is a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Say = Callable[[str], None]


@contextmanager
def progress(what: str) -> Iterator[Say]:
    """Shows `what`, and how it gets on: the function given is called with each step's name."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda step: status.update(f"{what}: {step}")


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = (),
    last_is_sum: bool = False,
) -> None:  # fmt: skip
    """A table on standard output; columns in `numbers` are set to the right."""
    if not sys.stdout.isatty():
        print(plain_table(head, rows, numbers), end="")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for k, name in enumerate(head):
        table.add_column(name, justify="right" if k in numbers else "left",
                         no_wrap=k in numbers, overflow="fold")  # fmt: skip
    for k, row in enumerate(rows):
        final = last_is_sum and k == len(rows) - 1
        table.add_row(*(_unmarked(c) for c in row), style="bold" if final else None)
    Console().print(table)


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]],
                numbers: Sequence[int] = ()) -> str:  # fmt: skip
    """The table as text with aligned columns."""
    lines = [head, *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    out = []
    for line in lines:
        cells = [c.rjust(w) if k in numbers else c.ljust(w)
                 for k, (c, w) in enumerate(zip(line, widths))]  # fmt: skip
        out.append("  ".join(cells).rstrip())
    return "\n".join(out) + "\n"


def _unmarked(text: str) -> str:
    """Text that `rich` shows as it is: `f32[8]` is no style."""
    from rich.markup import escape

    return escape(text)
