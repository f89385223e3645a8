"""Defects at random places of the library: one small change of one expression each.

Nothing here imports the library or JAX: its text alone is read, and no file of it is written.
"""

import ast
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FLIPS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
NAMES = {"sum": "mean", "mean": "sum", "min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}
# Functions whose first two arguments can be swapped without a difference, or never by mistake.
UNORDERED = {"min", "max", "minimum", "maximum", "logaddexp", "isinstance", "issubclass", "getattr", "hasattr"}
# Where a number is a size or a shade in a picture.
LOOKS = {"plots.py", "reports/_figures.py"}


class Change(NamedTuple):
    """`old`, which stands at `start` of the text of `file`, becomes `new`."""

    file: str  # below src/aevb
    line: int  # from 1
    start: int  # in characters
    kind: str
    old: str
    new: str


def changes(package: Path, only: str = "") -> list[Change]:
    """All changes of the files whose name, below the package, begins with `only`; always in the same order."""
    files = sorted((p.relative_to(package).as_posix(), p) for p in package.rglob("*.py"))
    return [c for name, path in files if name.startswith(only) for c in changes_of(name, path.read_text())]


def choose(every: list[Change], num: int, seed: int) -> list[Change]:
    """`num` of them, each kind in its turn, at random places; more for the same seed begin with these."""
    by_kind: dict[str, list[Change]] = {}
    for change in sorted(every):
        by_kind.setdefault(change.kind, []).append(change)
    rng = random.Random(seed)
    for group in by_kind.values():
        rng.shuffle(group)
    turns = itertools.zip_longest(*(by_kind[kind] for kind in sorted(by_kind)))
    return [change for turn in turns for change in turn if change is not None][:num]


def apply(change: Change, text: str) -> str:
    end = change.start + len(change.old)
    if text[change.start : end] != change.old:
        raise ValueError(f"{change.file}:{change.line} does not read {change.old!r}; the file is another one")
    return text[: change.start] + change.new + text[end:]


def changes_of(name: str, text: str) -> list[Change]:
    """Those of one file."""
    tree, line_starts = ast.parse(text), _line_starts(text)
    found = set()
    for node, is_condition in _visible(tree):
        start = _offset(text, line_starts, node.lineno, node.col_offset)
        end = _offset(text, line_starts, node.end_lineno, node.end_col_offset)
        for kind, new in _variants(node, is_condition):
            if ast.dump(new) != ast.dump(node) and not (kind == "constant" and name in LOOKS):
                # In brackets, for whatever stands around it.
                found.add(Change(name, node.lineno, start, kind, text[start:end], f"({ast.unparse(new)})"))
    return sorted(found)


def _visible(node: ast.AST, *, is_condition: bool = False) -> Iterator[tuple[ast.expr, bool]]:
    """The expressions that are run, and whether each is a condition.

    Messages are left out: no annotations, docstrings, f-strings, `raise` and `assert`.
    """
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.expr):
        yield node, is_condition
    hidden = {"annotation", "returns", "decorator_list", "bases"}
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and field not in hidden:
                yield from _visible(child, is_condition=field in ("test", "ifs", "guard"))


def _variants(node: ast.expr, is_condition: bool) -> Iterator[tuple[str, ast.expr]]:
    """What one expression may become instead."""
    match node:
        case ast.Compare(ops=[op]):
            for other in FLIPS[type(op)]:
                yield "comparison", ast.Compare(node.left, [other()], node.comparators)
        case ast.UnaryOp(op=ast.Not()):
            yield "condition", node.operand
        case _ if is_condition:
            yield "condition", ast.UnaryOp(ast.Not(), node)
    match node:
        case ast.BoolOp(op=op):
            yield "and/or", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), node.values)
        case ast.BinOp(op=op) if type(op) in OPERATORS and not _text(node.left) and not _text(node.right):
            yield "operator", ast.BinOp(node.left, OPERATORS[type(op)](), node.right)
            yield "dropped", node.left
            if isinstance(op, ast.Add | ast.Mult):
                yield "dropped", node.right
        case ast.UnaryOp(op=ast.USub()):
            yield "sign", node.operand
        case ast.Constant(value=bool(value)):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield "constant", ast.Constant(value + 1)
            if value > 0:
                yield "constant", ast.Constant(value - 1)
        case ast.Constant(value=float(value)):
            yield "constant", ast.Constant(2.0 * value if value else 1.0)
        case ast.Call(args=[first, second, *rest]) if _name(node.func) not in UNORDERED:
            if not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
                yield "arguments", ast.Call(node.func, [second, first, *rest], node.keywords)
        case ast.Attribute(value=ast.Name(id="jnp" | "np"), attr=attr) if attr in NAMES:
            yield "reduction", ast.Attribute(node.value, NAMES[attr], node.ctx)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _line_starts(text: str) -> list[int]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _offset(text: str, line_starts: list[int], line: int, column: int) -> int:
    """Of a place in characters; the parser counts a line's bytes."""
    begin, end = line_starts[line - 1], line_starts[line]
    return begin + len(text[begin:end].encode()[:column].decode())
