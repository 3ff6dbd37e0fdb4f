"""From a Function to a Program and on to native code: the only place where passes meet codegen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

from .codegen.kernel.frame import TOLD
from .codegen.kernel.ir import Kernel
from .codegen.kernel.program import Program, Site
from .dims import Dim, free_symbols, product, total
from .dtypes import Array
from .graph.ir import Function, Node, Value, structure
from .graph.ops.control import Control
from .graph.ops.effects import Check
from .graph.ops.fused import Fused
from .graph.ops.shape import Reshape
from .graph.ops.source import Constant, Input, Variable
from .graph.printer import constants_in
from .graph.requirements import requirements
from .graph.rewrite import copied
from .passes.base import Context, Record
from .passes.lower import lower
from .passes.pipeline import pipeline
from .passes.plan import Plan, plan
from .passes.prepare import prepared_nodes
from .passes.reading import memory_of
from .passes.schedule import naive, schedule
from .passes.share import share
from .passes.special import KERNELS as SPECIAL
from .passes.stages import Lowered
from .passes.work import Block, Held, Job, Scratch, Told, Work
from .target import Target

Watch = Callable[[str, object], None]


@dataclass
class Compiled:
    """Every stage of one compilation, for running, dumping and checking.

    `stages` are the names of the passes that changed the function and what they made of it;
    `fused` is the last. `records` says what passes decided and why.
    """

    source: Function
    fused: Function
    program: Program
    level: int = 2
    works: list[Work] = field(default_factory=list)
    stages: list[tuple[str, Function]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def constants(self) -> dict[str, Array]:
        """The data of every constant of the program by digest: the user's, and what passes made."""
        return constants_in(self.fused)


def compile_function(function: Function, target: Target, level: int = 2,
                     watch: Watch | None = None) -> Compiled:  # fmt: skip
    """The program of a function. Level 0 is the oracle: every op by itself, scalar loops."""
    stages: list[tuple[str, Function]] = []

    def saw(name: str, made: Function) -> None:
        stages.append((name, made))
        if watch:
            watch(name, made)

    context = Context(target, level, saw)
    whole, told = with_sizes(function)
    grouped = pipeline(level).run(copied(whole), context)
    block = make_block(grouped, target, level, _Known({}, {}))
    prepared = prepared_nodes(grouped) if level > 0 else frozenset()
    program = plan(Plan(block, prepared, target, level > 0, requirements(function), told))
    if watch:
        watch("program", program)
    return Compiled(function, grouped, program, level, list(block.works()), stages,
                    context.records)  # fmt: skip


def with_sizes(function: Function) -> tuple[Function, int]:
    """The function with the sizes that runs compute and its results have as further results; and how
    many these are."""
    if not function.outputs:
        return function, 0
    sizes = function.interner.sizes
    names = {s.name for _, v in function.outputs for d in v.shape for s in free_symbols(d)}
    found = tuple((TOLD + name, sizes[name].value) for name in sorted(names & sizes.keys()))
    return replace(function, outputs=(*function.outputs, *found)), len(found)


@dataclass(frozen=True)
class _Known:
    """Kernels that were made: by what they are, and by the structure of what they compute."""

    kernels: dict[Kernel, Kernel]
    bodies: dict[Hashable, tuple[Lowered, Kernel]]


def make_block(function: Function, target: Target, level: int, known: _Known) -> Block:
    """One kernel per fused node; equal kernels are one, wherever they are launched."""
    jobs: list[Job] = []
    views: dict[Value, Value] = {}  # a reshape -> the value whose memory it is
    for order, n in enumerate(function.nodes()):
        if isinstance(n.op, Input | Variable | Constant):
            continue
        if isinstance(n.op, Reshape):
            views[n.outputs[0]] = views.get(n.inputs[0], n.inputs[0])
        elif isinstance(n.op, Control):
            # a function may be held twice: in its own copy every value is one value in memory
            blocks = [make_block(copied(f), target, level, known) for f in n.op.functions]
            jobs.append(Held(n, n.op, tuple(blocks), n.inputs, order))
        else:
            assert isinstance(n.op, Fused)
            jobs.append(_work(n, n.op, order, target, level, known))
    told = _told(function, views)
    for job in jobs:
        job.reads = tuple(views.get(v, v) for v in job.reads)
        if isinstance(job, Work):
            job.tells = any(t.value in job.writes for t in told)
    return Block(function, jobs, told)


def _told(function: Function, views: Mapping[Value, Value]) -> tuple[Told, ...]:
    """The sizes that values of a function say."""
    found: dict[tuple[str, Value], Told] = {}
    for n in function.nodes():
        if not isinstance(n.op, Fused):
            continue
        outside = dict(zip(n.op.function.inputs, n.inputs))
        for m in n.op.function.nodes():
            for b in m.op.bindings():
                v = outside[m.inputs[b.operand]]
                site = Site("size", m.loc, m.op.name, (b.dim, b.most))
                found.setdefault((b.name, v), Told(b.dim, views.get(v, v), b.most, site))
    return tuple(found.values())


def _work(n: Node, op: Fused, order: int, target: Target, level: int,
          known: _Known) -> Work:  # fmt: skip
    body = op.function
    inner = [m for m in body.nodes() if not isinstance(m.op, Input)]
    label = "+".join(m.op.name for m in inner if not isinstance(m.op, Constant)) or body.name
    lowered = None
    sites: tuple[Site, ...] = ()
    reads = n.inputs
    special = next((m for m in inner if m.op.name in SPECIAL), None)
    if special is not None:
        made = SPECIAL[special.op.name](special.op, tuple(v.type for v in special.inputs),
                                        special.types)  # fmt: skip
        # its kernel has a buffer for each operand, also where a value is used twice
        reads = tuple(n.inputs[body.inputs.index(memory_of(v))] for v in special.inputs)
        kernel = unique_kernel(share(made), known.kernels, body.name)
        if special.op.indices is not None:
            indices = special.inputs[special.op.indices]
            sites = (Site("index", special.loc, special.op.name, indices.shape),)
    elif (key := structure(body)) in known.bodies:
        lowered, kernel = known.bodies[key]
    else:
        lowered = lower(body)
        make = schedule if level > 0 else lambda low, _, name: naive(low, name)
        made, checks = make(lowered, target, "k")
        sites = tuple(Site(c.code, c.node.loc, _what(c.node), c.node.types[0].shape)
                      for c in checks)  # fmt: skip
        kernel = unique_kernel(share(made), known.kernels, body.name)
        if not checks:  # a check says where it was written
            known.bodies[key] = (lowered, kernel)
    flops: Dim = total(m.op.flops(m.types[0], *(v.type for v in m.inputs)) for m in inner)
    moved: Dim = total([*(v.type.nbytes for v in n.inputs), *(t.nbytes for t in n.types)])
    own = kernel.params[len(reads) + len(n.outputs) :]  # what it neither reads nor makes
    scratch = tuple(Scratch(product(b.shape) * b.dtype.itemsize) for b in own)
    return Work(n, kernel, tuple(kernel.dims), reads, n.outputs, lowered, sites, flops, moved,
                label, n.locs, order, scratch)  # fmt: skip


def _what(n: Node) -> str:
    """What an error says about a node: a user's own words, or the op."""
    return n.op.message if isinstance(n.op, Check) else n.op.name


def unique_kernel(made: Kernel, known: dict[Kernel, Kernel], stem: str) -> Kernel:
    """The kernel under a name of its own; the same object for equal kernels."""
    key = made.renamed("")
    found = known.get(key)
    if found is None:
        found = known[key] = made.renamed(f"{stem}_{len(known)}")
    return found
