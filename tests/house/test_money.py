"""No float touches money: amounts are integers in minor units, rates are fractions, exponents come from the currency."""

import ast

import pytest

from tests.support.house import nodes, place, python_files

CALLS = {"float", "round"}
"""round() rounds half to even, which no contract says; float() loses cents."""
EXACT = ("domain", "ledger", "commissions", "payouts")
"""Packages in which not even a literal may be a float: there is nothing but money in them."""


def inexact(tree: list[ast.AST], *, literals: bool = False) -> list[tuple[ast.AST, str]]:
    """Return each node that would make a float of money, or believe that all currencies have cents."""
    found: list[tuple[ast.AST, str]] = []
    for node in tree:
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                found.append((node, f"{name}()"))
            case ast.BinOp(op=ast.Div() | ast.FloorDiv() | ast.Mult() | ast.Mod(), left=left, right=right) if any(
                isinstance(side, ast.Constant) and type(side.value) in {int, float} and side.value == 100
                for side in (left, right)
            ):
                found.append((node, "100"))
            case ast.Constant(value=float(value)) if literals:
                found.append((node, str(value)))
            case ast.Name(id="float") if literals:
                found.append((node, "float"))
    return found


def test_no_float_and_no_hundred_in_the_service() -> None:
    found = [
        f"{place(path, node)} {what}"
        for path in python_files("service")
        for node, what in inexact(list(nodes(path)), literals=path.parts[path.parts.index("service") + 1] in EXACT)
    ]

    assert found == []


@pytest.mark.parametrize("source", ["x / 100", "x * 100", "100 * x", "x // 100", "float(x)", "round(x, 2)", "x % 100"])
def test_this_test_would_see_it(source: str) -> None:
    assert inexact(list(ast.walk(ast.parse(source))))


@pytest.mark.parametrize("source", ["x = 0.1", "def f(x: float): pass"])
def test_this_test_would_see_it_in_exact_packages(source: str) -> None:
    assert inexact(list(ast.walk(ast.parse(source))), literals=True)


def test_a_percentage_may_be_a_fraction_of_a_hundred() -> None:
    assert inexact(list(ast.walk(ast.parse("Fraction(value, 100)"))), literals=True) == []
