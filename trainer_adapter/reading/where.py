"""The text that selects frames: the grammar of `where` in recipes (docs/recipe.md), without eval.

tests/planning/test_where.py holds this reader of it and the converter's to the same cases.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow.dataset import dataset

from trainer_adapter.errors import counting
from trainer_adapter.format.keywords import nearest

_COMPARE = {
    ast.Eq: "__eq__", ast.NotEq: "__ne__", ast.Lt: "__lt__", ast.LtE: "__le__", ast.Gt: "__gt__",
    ast.GtE: "__ge__",
}  # fmt: skip
_MIRROR = {"__lt__": "__gt__", "__gt__": "__lt__", "__le__": "__ge__", "__ge__": "__le__"}
_MOST = 1000
"""columns and comparisons: Arrow goes through them by recursion, and ends the process over more"""


def parse_where(text: str, columns: Collection[str]) -> tuple[pc.Expression, list[str]]:
    """(the pyarrow expression that `text` says over `columns`, the columns that it names).

    Raises KeyError for a column that is not there, ValueError for all else that is not legal.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as e:
        raise ValueError(f"where: cannot read {text!r:.400}: {e.msg}") from e
    except (ValueError, RecursionError, MemoryError) as e:  # a NUL, no UTF-8; nested too deep
        raise ValueError(f"where: cannot read {text!r:.400}: {e or 'nested too deep'}") from e
    nodes = list(ast.walk(tree))
    count = sum(isinstance(node, ast.Name | ast.Compare) for node in nodes)
    if count > _MOST:
        raise ValueError(
            f"where: {counting(count, 'column or comparison', 'columns and comparisons')} are too "
            f"many; legal: up to {_MOST}. For one of many values say `column in [...]`, which "
            "counts as two"
        )
    try:
        found = _Reader(text, columns).condition(tree)
    except (TypeError, OverflowError, NotImplementedError, RecursionError, UnicodeError) as e:
        raise ValueError(f"where: cannot read {text!r:.400}: {e}") from e  # pyarrow's, of literals
    except ValueError as e:
        if str(e).startswith("where: "):
            raise
        raise ValueError(f"where: cannot read {text!r:.400}: {e}") from e
    named = dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name))
    return found, list(named)


def holding(text: str, column: Callable[[str], Any], columns: list[str]) -> NDArray[np.bool_]:
    """(n,) True where `text` holds; only the columns that it names are read.

    Raises as `parse_where`, and ValueError where a column cannot be compared like that.
    """
    expression, named = parse_where(text, columns)
    if not named:
        raise ValueError(f"where: names no column: {text!r}")
    table = pa.table({name: _plain(column(name)) for name in named})
    try:
        found = dataset(table).to_table(columns={"holds": expression})["holds"]
        if not pa.types.is_boolean(found.type):
            raise ValueError(f"where: cannot compare so: a condition is missing: {text!r:.400}")
        holds: NDArray[np.bool_] = found.fill_null(False).to_numpy()
    except pa.ArrowException as e:
        raise ValueError(f"where: cannot compare so: {e}: {text!r:.400}") from e
    return holds


def _plain(column: Any) -> Any:
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


class _Reader:
    def __init__(self, text: str, columns: Collection[str]) -> None:
        self._text, self._columns = text, columns

    def _refused(self, node: ast.AST, why: str) -> ValueError:
        return ValueError(f"where: {why}: {ast.unparse(node)!r} in {self._text!r}")

    def condition(self, node: ast.expr) -> pc.Expression:
        """What an expression says that is true or not."""
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(value) for value in node.values]
            result = parts[0]
            for part in parts[1:]:
                result = result & part if isinstance(node.op, ast.And) else result | part
            return result
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            return self._chain(node)
        if isinstance(node, ast.Name):
            return self._column(node)
        raise self._refused(node, "legal are comparisons joined by and, or, not")

    def _chain(self, node: ast.Compare) -> pc.Expression:
        places = [node.left, *node.comparators]
        result = self._pair(node, places[0], node.ops[0], places[1])
        for k, op in enumerate(node.ops[1:], 1):
            result = result & self._pair(node, places[k], op, places[k + 1])
        return result

    def _pair(
        self, node: ast.Compare, left: ast.expr, op: ast.cmpop, right: ast.expr
    ) -> pc.Expression:
        if isinstance(op, ast.In | ast.NotIn):
            values = self._literal(right)
            if not isinstance(values, list | tuple | set) or not values:
                raise self._refused(right, "`in` wants a list of values")
            column = self._column(left)
            # Of a null it must stay one, or `not in` would hold for it.
            inside = pc.if_else(column.is_valid(), column.isin(list(values)), None)
            return inside if isinstance(op, ast.In) else ~inside
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._refused(right, "`is` is only for None")
            absent = self._column(left).is_null()
            return absent if isinstance(op, ast.Is) else ~absent
        name = _COMPARE[type(op)]
        if not isinstance(left, ast.Name):
            left, right, name = right, left, _MIRROR.get(name, name)
        if not isinstance(left, ast.Name):
            raise self._refused(node, "a comparison needs a column")
        other: Any = self._column(right) if isinstance(right, ast.Name) else self._literal(right)
        if other is None:
            raise self._refused(left, "say `is None` or `is not None`")
        result: pc.Expression = getattr(self._column(left), name)(other)
        return result

    def _column(self, node: ast.expr) -> pc.Expression:
        if not isinstance(node, ast.Name):
            raise self._refused(node, "expected a column")
        if node.id not in self._columns:
            raise KeyError(
                f"where: no such column: {node.id!r} in {self._text!r}; "
                f"{nearest(node.id, sorted(self._columns))}"
            )
        return pc.field(node.id)

    def _literal(self, node: ast.expr) -> Any:
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError) as e:
            raise self._refused(node, "expected a value") from e
