"""`where`: a Python-like expression over header columns, without eval.

`modality == "CT" and thickness <= 2.5` becomes a pyarrow expression. Legal are column names,
literals, lists, comparisons, `in`, `not in`, `and`, `or`, `not`, and `is None`. A comparison with a
missing value is not true, as in SQL. docs/recipe.md says it to users; tests/planning/test_where.py
holds this reader of it and trainer_adapter's to the same cases.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

import pyarrow.compute as pc

from dicom2cache.errors import RecipeError, counting, meant
from dicom2cache.schema import COLUMNS

_COMPARE = {
    ast.Eq: "__eq__",
    ast.NotEq: "__ne__",
    ast.Lt: "__lt__",
    ast.LtE: "__le__",
    ast.Gt: "__gt__",
    ast.GtE: "__ge__",
}
_MIRROR = {"__lt__": "__gt__", "__gt__": "__lt__", "__le__": "__ge__", "__ge__": "__le__"}

_MOST = 1000
"""columns and comparisons: Arrow goes through an expression by recursion, and some ten thousand of
them, one below the other, end the process"""


def parse_where(text: str, columns: tuple[str, ...]) -> pc.Expression:
    """The pyarrow expression that `text` says, over `columns`.

    Raises RecipeError for anything but the legal forms, naming the part that is not.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as e:
        raise RecipeError(f"where: cannot read {text!r:.400}: {e.msg}") from e
    except (ValueError, RecursionError, MemoryError) as e:  # a NUL, no UTF-8; nested too deep
        raise RecipeError(f"where: cannot read {text!r:.400}: {e or 'nested too deep'}") from e
    conditions = [node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Compare)]
    if len(conditions) > _MOST:
        raise RecipeError(
            "where: "
            f"{counting(len(conditions), 'column or comparison', 'columns and comparisons')} are "
            f"too many; legal: up to {_MOST}. For one of many values say `column in [...]`, which "
            "counts as two"
        )
    try:
        return _Parser(text, frozenset(columns)).condition(tree)
    except RecipeError:
        raise
    except (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError) as e:
        # pyarrow, for literals that it has no type for
        raise RecipeError(f"where: cannot read {text!r:.400}: {e}") from e


_HASHED = frozenset({c.name for c in COLUMNS if c.privacy == "hashed"} | {"mtime_ns"})


def check_kept(wheres: Iterable[str | None]) -> None:
    """Raises RecipeError for a `where` by what a de-identified cache has hashes of, or by dates."""
    for where in filter(None, wheres):
        tree = ast.walk(ast.parse(where.strip(), mode="eval"))
        for name in sorted({node.id for node in tree if isinstance(node, ast.Name)} & _HASHED):
            raise RecipeError(
                f"where: names {name}, and a recipe is kept in the cache, from which --deidentify "
                "leaves that out; give the files that you want as SRC..."
            )


class _Parser:
    def __init__(self, text: str, columns: frozenset[str]) -> None:
        self.text = text
        self.columns = columns

    def refuse(self, node: ast.AST, why: str) -> RecipeError:
        part = ast.unparse(node)
        return RecipeError(f"where: {why}: {part!r} in {self.text!r}")

    def condition(self, node: ast.expr) -> pc.Expression:
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(v) for v in node.values]
            result = parts[0]
            for part in parts[1:]:
                result = result & part if isinstance(node.op, ast.And) else result | part
            return result
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            return self.comparison(node)
        if isinstance(node, ast.Name):
            return self.column(node)
        raise self.refuse(node, "legal are comparisons joined by and, or, not")

    def comparison(self, node: ast.Compare) -> pc.Expression:
        left, result = node.left, None
        for op, right in zip(node.ops, node.comparators, strict=True):
            part = self.pair(node, left, op, right)
            result = part if result is None else result & part
            left = right
        assert result is not None
        return result

    def pair(
        self, node: ast.Compare, left: ast.expr, op: ast.cmpop, right: ast.expr
    ) -> pc.Expression:
        if isinstance(op, ast.In | ast.NotIn):
            values = self.literal(right)
            if not isinstance(values, list | tuple | set) or not values:
                raise self.refuse(right, "`in` wants a list of values")
            # isin() says false of a null; here it must stay one, or `not in` would hold for it.
            column = self.column(left)
            inside = pc.if_else(column.is_valid(), column.isin(list(values)), None)
            return inside if isinstance(op, ast.In) else ~inside
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self.refuse(right, "`is` is only for None")
            absent = self.column(left).is_null()
            return absent if isinstance(op, ast.Is) else ~absent
        name = _COMPARE[type(op)]
        if isinstance(left, ast.Name):
            other: Any = self.column(right) if isinstance(right, ast.Name) else self.literal(right)
            return self.compare(left, name, other)
        if isinstance(right, ast.Name):
            return self.compare(right, _MIRROR.get(name, name), self.literal(left))
        raise self.refuse(node, "a comparison needs a column")

    def compare(self, column: ast.Name, name: str, other: Any) -> pc.Expression:
        if other is None:
            raise self.refuse(column, "say `is None` or `is not None`")
        result: pc.Expression = getattr(self.column(column), name)(other)
        return result

    def column(self, node: ast.expr) -> pc.Expression:
        if not isinstance(node, ast.Name):
            raise self.refuse(node, "expected a column")
        if node.id not in self.columns:
            names = sorted(self.columns)
            raise self.refuse(
                node, f"no such column; the columns are {', '.join(names)}{meant(node.id, names)}"
            )
        return pc.field(node.id)

    def literal(self, node: ast.expr) -> Any:
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError) as e:
            raise self.refuse(node, "expected a value") from e
