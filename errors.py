"""Error classes and source locations: whose fault an error is, and which line of theirs.

Every error a user can cause derives from `UserError`; `InternalError` means flowmill itself is
wrong. A message says what is wrong, with which values, where, and what to do.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = str(Path(__file__).resolve().parent)
_TESTS = (
    str(Path(_PACKAGE, "tests")),
    str(Path(_PACKAGE, "examples")),
    str(Path(_PACKAGE, "benchmarks")),
)
_is_own_file: dict[str, bool] = {}


@dataclass(frozen=True, slots=True)
class Loc:
    """Where a node was made: file, line, and the path of layers it belongs to ("conv1/bias")."""

    file: str
    line: int
    layer: str = ""

    def __str__(self) -> str:
        """As messages show it; nothing where the line is not known."""
        place = f"{Path(self.file).name}:{self.line}" if self.line else ""
        return " ".join(x for x in (place, f"in {self.layer}" if self.layer else "") if x)

    @property
    def aside(self) -> str:
        """ " (file:line in layer)", to follow what it is about; nothing where it is not known."""
        return f" ({self})" if str(self) else ""


UNKNOWN = Loc("<unknown>", 0)


def user_frame() -> tuple[str, int]:
    """File and line of the nearest caller outside the flowmill package itself."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        own = _is_own_file.get(file)
        if own is None:
            own = file.startswith(_PACKAGE) and not file.startswith(_TESTS)
            _is_own_file[file] = own = own or file.startswith("<frozen")
        if not own:
            return file, frame.f_lineno
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "<unknown>", 0


class FlowmillError(Exception):
    """Base of everything flowmill raises on purpose."""


class InternalError(FlowmillError):
    """A bug in flowmill. Never the user's fault."""


class UserError(FlowmillError):
    """The user can mend this. `notes` are the lines below the message: places, then advice. Errors
    of a call that a user writes (`placed`) begin with its place, unless it was given."""

    placed = False

    def __init__(self, message: str, *notes: str) -> None:
        self.message = message
        self.notes = tuple(n for n in notes if n)
        if self.placed:
            file, line = user_frame()
            here = f"{Path(file).name}:{line}"
            if line and not any(here in text for text in (message, *notes)):
                self.notes = (here, *self.notes)
        super().__init__("\n  ".join((message, *self.notes)))


class ShapeError(UserError):
    """Shapes do not fit an op."""

    placed = True


class LimitError(ShapeError):
    """A value would be larger, or have more axes, than anything can hold; found out while a graph
    is built or compiled."""


class DTypeError(UserError):
    """Data types do not fit an op."""

    placed = True


class GraphError(UserError):
    """A graph is built wrongly: a name used twice, a cycle, a value of another graph."""

    placed = True


class FeedError(UserError):
    """What was fed does not fit the graph's inputs. Lists every bad feed at once."""


class FetchError(UserError):
    """What was asked for is not in the graph."""

    placed = True


class ModelError(UserError):
    """A model file cannot be read: truncated, corrupt, of another version, or not understood."""


class CheckpointError(UserError):
    """A checkpoint is damaged or belongs to another model."""


class TextError(UserError):
    """A textual form does not parse. The notes name line and column."""


class ConfigError(UserError):
    """A setting or argument has a value that is not allowed."""

    placed = True


class ExportError(UserError):
    """An artefact cannot be written or loaded."""


class RunError(UserError):
    """A check failed while a program ran: index out of range, division by zero, `fm.check`."""
