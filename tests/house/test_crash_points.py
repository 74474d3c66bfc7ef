"""Every crash point is somewhere, once, and nothing else in the service ends its own process."""

import ast
from collections import Counter

from service.infra.crash import CrashPoint
from tests.support.house import ROOT, nodes, place, python_files

CRASH = ROOT / "service" / "infra" / "crash.py"
ENDS_A_PROCESS = {"kill", "killpg", "_exit", "abort", "raise_signal", "pthread_kill"}
ALLOWED = {
    # The forked child that was to become PostgreSQL, when its owner is gone already; and a look whether a pid is alive.
    "service/infra/embedded_postgres.py": {"_exit", "kill"},
    # The same look, for processes that count.
    "service/infra/metrics.py": {"kill"},
}


def points_reached() -> list[str]:
    """Return the point of every call of crash_point in the service, one per call."""
    found = []
    for path in python_files("service"):
        if path == CRASH:
            continue
        for node in nodes(path):
            match node:
                case ast.Call(func=ast.Name(id="crash_point"), args=[argument], keywords=[]):
                    match argument:
                        case ast.Attribute(value=ast.Name(id="CrashPoint"), attr=name):
                            found.append(name)
                        case _:
                            raise AssertionError(f"{place(path, node)} does not name its crash point")
    return found


def test_every_crash_point_is_reached_at_exactly_one_place() -> None:
    assert Counter(points_reached()) == Counter({point.name: 1 for point in CrashPoint})


def test_nothing_but_a_crash_point_ends_its_own_process() -> None:
    found = [
        f"{place(path, node)} .{node.func.attr}()"
        for path in python_files("service")
        if path != CRASH
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ENDS_A_PROCESS - ALLOWED.get(str(path.relative_to(ROOT)), set())
    ]

    assert found == []


def test_this_test_would_see_the_one_that_does() -> None:
    calls = [node.func for node in nodes(CRASH) if isinstance(node, ast.Call)]

    assert "kill" in {call.attr for call in calls if isinstance(call, ast.Attribute)}
