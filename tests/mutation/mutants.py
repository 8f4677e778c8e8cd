"""All small changes of a module's source that ought to be noticed.

Left out: annotations, docstrings, sentences and formatted text, what an exception is raised with, decorators,
imports, type aliases and ``__all__``.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
}  # fmt: skip
NAMES = {"min": "max", "any": "all", "minimum": "maximum", "amin": "amax", "argmin": "argmax"}
NAMES |= {other: name for name, other in NAMES.items()}
COMMUTATIVE = {"min", "max", "minimum", "maximum"}
UNTOUCHED = ("annotation", "returns", "decorator_list", "bases", "ctx", "op", "ops")
NEGATED = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
"""Comparisons whose other side is already their negation."""


@dataclass(frozen=True)
class Mutant:
    """A module with one change. `before` and `after` are the statement, or the head of a compound one."""

    line: int
    function: str
    before: str
    after: str
    code: CodeType

    def __str__(self) -> str:
        return f"{self.line}: {self.function}\n    - {self.before}\n    + {self.after}"


@dataclass(frozen=True)
class Site:
    """A place in the tree: the field of a node, or one item of it.

    `head` is the place of the statement around it, of a compound one that of the part before the colon; None
    where that is the place itself.
    """

    parent: ast.AST
    name: str
    index: int | None
    head: Site | None
    function: str

    @property
    def node(self) -> ast.AST:
        found = getattr(self.parent, self.name)
        return found if self.index is None else found[self.index]

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.name, node)
        else:
            getattr(self.parent, self.name)[self.index] = node

    def shown(self) -> str:
        node = (self.head or self).node
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            return f"def {node.name}"
        return " ".join(ast.unparse(node).split())


def mutants(source: str, filename: str, functions: tuple[str, ...] = ()) -> Iterator[Mutant]:
    """Every mutant of `source`; of `functions` (``Class.method`` or ``Class``) alone where they are named."""
    tree = ast.parse(source)
    for site in list(_sites(tree, None, "")):
        if functions and not any((site.function + ".").startswith(name + ".") for name in functions):
            continue
        original, before = site.node, site.shown()
        for other in _changes(original, site):
            site.put(ast.fix_missing_locations(ast.copy_location(other, original)))
            code = compile(tree, filename, "exec", dont_inherit=True)
            yield Mutant(original.lineno, site.function, before, site.shown(), code)
            site.put(original)


def _sites(node: ast.AST, head: Site | None, function: str) -> Iterator[Site]:
    for name, value in ast.iter_fields(node):
        if name in UNTOUCHED:
            continue
        for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if not isinstance(child, ast.AST) or _left_out(child):
                continue
            inner = function
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{function}.{child.name}".lstrip(".")
            own = isinstance(child, ast.stmt) or (isinstance(node, ast.stmt) and hasattr(node, "body"))
            site = Site(node, name, index, None if own else head, inner)
            yield site
            if not isinstance(child, ast.Raise):  # what is raised is a message
                yield from _sites(child, site.head or site, inner)


def _left_out(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript()):
            return name[0].isupper() and not name.isupper()  # a type alias
        case ast.Constant(value=str(text)):
            return " " in text
        case ast.JoinedStr():
            return any(isinstance(part, ast.Constant) and " " in str(part.value) for part in node.values)
    return False


def _changes(node: ast.AST, site: Site) -> Iterator[ast.AST]:
    match node:
        case ast.Constant():
            yield from _other_constants(node.value)
        case ast.Name(id=name) if name in NAMES:
            yield ast.Name(NAMES[name], node.ctx)
        case ast.Attribute(attr=name) if name in NAMES and isinstance(node.ctx, ast.Load):
            yield ast.Attribute(node.value, NAMES[name], node.ctx)
        case ast.keyword(arg="min" | "max"):
            yield ast.keyword(NAMES[str(node.arg)], node.value)
        case ast.Compare(ops=[first, *others]) if type(first) in COMPARISONS:
            yield ast.Compare(node.left, [COMPARISONS[type(first)](), *others], node.comparators)
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            yield ast.BinOp(node.left, ARITHMETIC[type(op)](), node.right)
        case ast.AugAssign(op=op):
            if type(op) in ARITHMETIC:
                yield ast.AugAssign(node.target, ARITHMETIC[type(op)](), node.value)
            yield ast.Pass()
        case ast.BoolOp(op=op):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node.operand
        case ast.Slice():
            if node.lower is not None:
                yield ast.Slice(None, node.upper, node.step)
            if node.upper is not None:
                yield ast.Slice(node.lower, None, node.step)
        case ast.Call():
            yield from _swapped(node)
        case ast.Return(value=value) if value is not None and ast.unparse(value) != "None":
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Subscript()]):  # without a name's assignment nothing would run
            yield ast.Pass()
    if site.name == "test" or (site.name == "ifs" and isinstance(site.parent, ast.comprehension)):
        yield from _negated(node)


def _negated(test: ast.AST) -> Iterator[ast.AST]:
    if isinstance(test, ast.UnaryOp) or (isinstance(test, ast.Compare) and isinstance(test.ops[0], NEGATED)):
        return
    yield ast.UnaryOp(ast.Not(), copy.deepcopy(test))


def _swapped(call: ast.Call) -> Iterator[ast.AST]:
    if len(call.args) < 2 or any(isinstance(argument, ast.Starred) for argument in call.args[:2]):
        return
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in COMMUTATIVE and ast.dump(call.args[0]) != ast.dump(call.args[1]):
        yield ast.Call(call.func, [call.args[1], call.args[0], *call.args[2:]], call.keywords)


def _other_constants(value: object) -> Iterator[ast.AST]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, float):
        yield ast.Constant(value * 2 if value else 1.0)
    elif isinstance(value, str):
        yield ast.Constant(value + "XX")
    elif isinstance(value, bytes):
        yield ast.Constant(value + b"XX")
