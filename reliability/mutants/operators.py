"""The faults: every way in which one node of a module's syntax tree is made wrong.

Nothing is mutated where no test can or should see it: annotations, docstrings, the words of error messages, asserts
(they tell the type checker what is known), and blocks under ``TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
PAIRS = (
    ("min", "max"), ("minimum", "maximum"), ("add", "subtract"), ("multiply", "divide"), ("any", "all"),
    ("zeros", "ones"), ("zeros_like", "ones_like"), ("floor", "ceil"), ("isnan", "isfinite"), ("sum", "mean"),
    ("sin", "cos"), ("isinf", "isnan"),
)  # fmt: skip
HARMLESS = {"strict", "stacklevel"}  # arguments that guard against our own mistakes, or say where a warning points
OTHER_NAMES = {**dict(PAIRS), **{b: a for a, b in reversed(PAIRS)}}
# calls that may be forgotten: f(x) -> x, x.f() -> x
UNWRAPPED = {"abs", "sqrt", "square", "exp", "log", "ascontiguousarray", "sorted", "reversed", "negative", "max", "min"}
COMMUTATIVE = {"add", "multiply", "maximum", "minimum", "max", "min", "overlap", "may_share_memory", "shares_memory"}
UNWRAPPED_METHODS = {"copy", "astype", "reshape", "transpose", "lower", "strip"}

Fault: TypeAlias = tuple[str, ast.AST | None]  # the operator's name, what stands there instead (None: nothing)


class Mutant(NamedTuple):
    """One fault, and the way into a module's code."""

    key: str  # the same as long as the function it is in is: no line numbers
    function: str  # qualified name of the outermost function around it; "" outside
    on_import: bool  # what is wrong runs when the module is imported: defaults and decorators, too
    lines: range  # of the source: a test that runs none of them cannot see the fault
    source: str  # of that function, or of the module
    compile: Callable[[str], Any]  # file name -> the module's code with the fault


def mutants(source: str) -> list[Mutant]:
    """Every fault of a module, in the order of its text."""
    tree = ast.parse(source)
    found = []
    seen: Counter[str] = Counter()
    at_import, texts = _at_import(tree), _texts(tree, source)
    for spot, function in _spots(tree):
        node = spot.node
        for operator, new in _faults(node, spot):
            before, after = _text(node), "" if new is None else _text(ast.copy_location(new, node))
            key = f"{function or '<module>'}: {operator}: {before} -> {after or 'nothing'}"
            seen[key] += 1
            if seen[key] > 1:
                key += f" #{seen[key]}"
            compiled = _compiler(tree, spot, new)
            on_import = not function or id(node) in at_import
            text = source if on_import else texts[function]
            found.append(Mutant(key, function, on_import, _lines(node, spot.line), text, compiled))
    return found


def _lines(node: ast.AST, line: int) -> range:
    """Of a statement with a body, those of its head."""
    first = getattr(node, "lineno", line)
    body = getattr(node, "body", None)
    last = body[0].lineno if isinstance(body, list) else getattr(node, "end_lineno", first)
    return range(first, last + 1)


def _text(node: ast.AST) -> str:
    """One line."""
    if isinstance(node, ast.Slice):
        return ":".join("" if part is None else ast.unparse(part) for part in (node.lower, node.upper))
    if isinstance(node, ast.ExceptHandler):
        return f"except {'' if node.type is None else ast.unparse(node.type)}: {_text(node.body[0])}"
    if isinstance(node, (ast.If, ast.While, ast.For, ast.With, ast.Try, ast.FunctionDef)):
        return ast.unparse(node).splitlines()[0]
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 140 else text[:137] + "..."


class _Spot(NamedTuple):
    """A place in the tree: what is there, and whose field it is."""

    node: ast.AST
    parent: ast.AST
    field: str
    index: int | None
    line: int

    def put(self, node: ast.AST | None) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def _compiler(tree: ast.Module, spot: _Spot, new: ast.AST | None) -> Callable[[str], Any]:
    def compiled(filename: str) -> Any:
        fresh = ast.Pass() if new is None else new
        spot.put(ast.copy_location(fresh, spot.node))
        try:
            return compile(ast.fix_missing_locations(tree), filename, "exec")
        finally:
            spot.put(spot.node)

    return compiled


SKIPPED_FIELDS = {"annotation", "returns", "type_params", "ctx", "op", "ops"}


def _spots(tree: ast.Module) -> Iterator[tuple[_Spot, str]]:
    def walk(parent: ast.AST, function: str, inside: str, line: int) -> Iterator[tuple[_Spot, str]]:
        for field, value in ast.iter_fields(parent):
            if field in SKIPPED_FIELDS:
                continue
            whole = isinstance(value, list)
            for index, node in enumerate(value if whole else [value]):
                if not isinstance(node, ast.AST) or _left_alone(node, parent, field, index):
                    continue
                at = getattr(node, "lineno", line)
                name, prefix = function, inside
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    prefix = f"{inside}.{node.name}" if inside else node.name
                    if isinstance(node, ast.FunctionDef) and not function:
                        name = prefix
                yield _Spot(node, parent, field, index if whole else None, at), function
                yield from walk(node, name, prefix, at)

    return walk(tree, "", "", 1)


def _texts(tree: ast.AST, source: str, inside: str = "") -> dict[str, str]:
    """Of the outermost functions, by qualified name: of those that share one, such as a property's, all."""
    found: dict[str, str] = {}
    for node in ast.iter_child_nodes(tree):
        name = f"{inside}.{node.name}" if inside and hasattr(node, "name") else getattr(node, "name", "")
        if isinstance(node, ast.FunctionDef):
            found[name] = found.get(name, "") + (ast.get_source_segment(source, node) or "")
        else:
            deeper = _texts(node, source, name if isinstance(node, ast.ClassDef) else inside)
            found |= {key: found.get(key, "") + text for key, text in deeper.items()}
    return found


def _at_import(tree: ast.Module) -> set[int]:
    """The nodes in defaults and decorators."""
    found: set[int] = set()
    for definition in ast.walk(tree):
        if isinstance(definition, ast.FunctionDef):
            defaults = [d for d in definition.args.kw_defaults if d is not None]
            for node in (*definition.decorator_list, *definition.args.defaults, *defaults):
                found |= {id(inner) for inner in ast.walk(node)}
    return found


def _left_alone(node: ast.AST, parent: ast.AST, field: str, index: int) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.Assert, ast.JoinedStr)):
        return True
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return True
    if field == "body" and index == 0 and _is_text(node):
        return True  # a docstring
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "__slots__", "Array", "Float64"):
        return True
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return True
    if isinstance(node, ast.keyword) and node.arg in HARMLESS:
        return True
    return isinstance(parent, ast.Raise) and field == "cause"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _faults(node: ast.AST, spot: _Spot) -> Iterator[Fault]:
    for kind, faults in FAULTS:
        if isinstance(node, kind):
            yield from faults(node, spot)


# --- expressions ------------------------------------------------------------------------------------------------------


def _comparison(node: ast.Compare, _: _Spot) -> Iterator[Fault]:
    for i, op in enumerate(node.ops):
        for other in COMPARISONS[type(op)]:
            yield "comparison", ast.Compare(node.left, [*node.ops[:i], other(), *node.ops[i + 1 :]], node.comparators)


def _arithmetic(node: ast.BinOp, _: _Spot) -> Iterator[Fault]:
    texts = isinstance(node.left, (ast.JoinedStr, ast.Constant)) and not isinstance(
        getattr(node.left, "value", ""), (int, float)
    )
    if type(node.op) in ARITHMETIC and not texts:
        yield "arithmetic", ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)


def _in_place(node: ast.AugAssign, _: _Spot) -> Iterator[Fault]:
    if type(node.op) in ARITHMETIC:
        yield "arithmetic", ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)
    yield "assignment", ast.Assign([node.target], node.value)


def _boolean(node: ast.BoolOp, _: _Spot) -> Iterator[Fault]:
    yield "boolean", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for i in range(len(node.values)):
        rest = node.values[:i] + node.values[i + 1 :]
        yield "condition", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _unary(node: ast.UnaryOp, _: _Spot) -> Iterator[Fault]:
    if not isinstance(node.op, ast.UAdd):
        yield "not" if isinstance(node.op, ast.Not) else "sign", node.operand


def _constant(node: ast.Constant, spot: _Spot) -> Iterator[Fault]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int):
        yield "constant", ast.Constant(value + 1)
        if not (isinstance(spot.parent, ast.UnaryOp) and value == 1):  # -1 -> -0 says what 0 does
            yield "constant", ast.Constant(value - 1)
    elif isinstance(value, float):
        yield "constant", ast.Constant(value * 2.0 if value else 1.0)
    elif isinstance(value, str) and value and not isinstance(spot.parent, (ast.Call, ast.FormattedValue)):
        yield "constant", ast.Constant(f"not {value}")


def _choice(node: ast.IfExp, _: _Spot) -> Iterator[Fault]:
    yield "choice", ast.IfExp(node.test, node.orelse, node.body)


def _call(node: ast.Call, spot: _Spot) -> Iterator[Fault]:
    if isinstance(spot.parent, ast.Raise):
        return
    called = node.func
    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
    if name in ("cast", "TypeVar", "super", "warn", "isinstance", "getattr"):
        return
    for i in range(0 if name in COMMUTATIVE else len(node.args) - 1):
        a, b = node.args[i], node.args[i + 1]
        if not isinstance(a, ast.Starred) and not isinstance(b, ast.Starred) and ast.dump(a) != ast.dump(b):
            swapped = [*node.args[:i], b, a, *node.args[i + 2 :]]
            yield "swapped arguments", ast.Call(called, swapped, node.keywords)
    for i, keyword in enumerate(node.keywords):
        reused = keyword.arg == "out" and not isinstance(spot.parent, ast.Expr)  # without it, the same in new memory
        if keyword.arg is not None and keyword.arg not in HARMLESS and not reused:
            yield "argument", ast.Call(called, node.args, node.keywords[:i] + node.keywords[i + 1 :])
    if name in OTHER_NAMES:
        other = OTHER_NAMES[name]
        func = ast.Name(other, ast.Load()) if isinstance(called, ast.Name) else _renamed(called, other)
        yield "function", ast.Call(func, node.args, node.keywords)
    if name in UNWRAPPED and len(node.args) == 1:
        yield "forgotten call", node.args[0]
    if isinstance(called, ast.Attribute) and name in UNWRAPPED_METHODS and not isinstance(spot.parent, ast.Expr):
        yield "forgotten call", called.value
    if name == "range" and len(node.args) == 1:
        yield "off by one", ast.Call(called, [ast.BinOp(node.args[0], ast.Sub(), ast.Constant(1))], [])


def _renamed(attribute: ast.expr, name: str) -> ast.expr:
    assert isinstance(attribute, ast.Attribute)
    return ast.Attribute(attribute.value, name, ast.Load())


def _named(node: ast.Attribute, spot: _Spot) -> Iterator[Fault]:
    """A ufunc that is passed on, not called."""
    of_numpy = isinstance(node.value, ast.Name) and node.value.id == "np"
    if node.attr in OTHER_NAMES and of_numpy and not isinstance(spot.parent, ast.Call):
        yield "function", _renamed(node, OTHER_NAMES[node.attr])


def _slice(node: ast.Slice, _: _Spot) -> Iterator[Fault]:
    for bound in ("lower", "upper"):
        value = getattr(node, bound)
        if value is not None:
            fields: dict[str, Any] = {"lower": node.lower, "upper": node.upper, "step": node.step}
            if not isinstance(value, ast.Constant):
                moved = ast.BinOp(value, ast.Add(), ast.Constant(1))
                yield "off by one", ast.Slice(**{**fields, bound: moved})
            yield "slice", ast.Slice(**{**fields, bound: None})


def _filter(node: ast.comprehension, _: _Spot) -> Iterator[Fault]:
    for i in range(len(node.ifs)):
        yield "condition", ast.comprehension(node.target, node.iter, node.ifs[:i] + node.ifs[i + 1 :], node.is_async)


# --- statements -------------------------------------------------------------------------------------------------------


def _deleted(node: ast.stmt, _: _Spot) -> Iterator[Fault]:
    if not _is_text(node):
        yield "deleted statement", None
    if isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield "return", ast.Return(ast.Constant(None))
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
        other = "TypeError" if node.exc.func.id == "ValueError" else "ValueError"
        raised = ast.Call(ast.Name(other, ast.Load()), node.exc.args, node.exc.keywords)
        yield "exception", ast.Raise(raised, node.cause)


def _branch(node: ast.If | ast.While, _: _Spot) -> Iterator[Fault]:
    negated = ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.If):
        yield "negated", ast.If(negated, node.body, node.orelse)
        if node.orelse:
            yield "deleted statement", ast.If(node.test, node.body, [])
    else:
        yield "negated", ast.While(negated, node.body, node.orelse)


def _jump(node: ast.Break | ast.Continue, _: _Spot) -> Iterator[Fault]:
    yield "jump", ast.Continue() if isinstance(node, ast.Break) else ast.Break()


def _context(node: ast.With, _: _Spot) -> Iterator[Fault]:
    if all(item.optional_vars is None for item in node.items):
        yield "context", ast.If(ast.Constant(True), node.body, [])


def _handler(node: ast.ExceptHandler, _: _Spot) -> Iterator[Fault]:
    if ast.unparse(node.body[0]) != "raise":
        yield "exception", ast.ExceptHandler(node.type, node.name, [ast.Raise()])
    if isinstance(node.type, ast.Tuple):
        for i in range(len(node.type.elts)):
            rest = ast.Tuple(node.type.elts[:i] + node.type.elts[i + 1 :], ast.Load())
            yield "exception", ast.ExceptHandler(rest, node.name, node.body)


def _cleanup(node: ast.Try, _: _Spot) -> Iterator[Fault]:
    if node.finalbody:
        yield "cleanup", ast.Try(node.body, node.handlers, node.orelse, [ast.Pass()])


def _decorated(node: ast.FunctionDef, _: _Spot) -> Iterator[Fault]:
    for i, decorator in enumerate(node.decorator_list):
        if "cache" in ast.unparse(decorator):
            rest = node.decorator_list[:i] + node.decorator_list[i + 1 :]
            fields = dict(ast.iter_fields(node))
            yield "decorator", ast.FunctionDef(**{**fields, "decorator_list": rest})


FAULTS: tuple[tuple[Any, Callable[[Any, _Spot], Iterator[Fault]]], ...] = (
    (ast.Compare, _comparison),
    (ast.BinOp, _arithmetic),
    (ast.AugAssign, _in_place),
    (ast.BoolOp, _boolean),
    (ast.UnaryOp, _unary),
    (ast.Constant, _constant),
    (ast.IfExp, _choice),
    (ast.Call, _call),
    (ast.Attribute, _named),
    (ast.Slice, _slice),
    (ast.comprehension, _filter),
    ((ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete, ast.Return, ast.Raise), _deleted),
    ((ast.If, ast.While), _branch),
    ((ast.Break, ast.Continue), _jump),
    (ast.With, _context),
    (ast.ExceptHandler, _handler),
    (ast.Try, _cleanup),
    (ast.FunctionDef, _decorated),
)
