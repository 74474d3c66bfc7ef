"""What is printed: tables, progress bars, and the one line of a result."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

console = Console(highlight=False)


@contextlib.contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; the function it yields is told how far things are."""
    columns = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(title, total=total)
        yield lambda done: bars.update(task, completed=done)


@contextlib.contextmanager
def counting(title: str) -> Iterator[Callable[[int], None]]:
    """Show how far things are that end nobody knows when."""
    columns = (SpinnerColumn(), TextColumn("{task.description:<34} {task.completed:>12,.0f}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done: bars.update(task, completed=done)


def end_in_order() -> None:
    """Let a request to end, such as a time limit's, undo what was started as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit("Asked to end."))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table; the first `left` columns are words, the others numbers."""
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        # Words may take two lines on a narrow terminal, numbers may not.
        is_word = index < left
        drawn.add_column(column, justify="left" if is_word else "right", overflow="fold", no_wrap=not is_word)
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)


def say(text: str) -> None:
    """Print a sentence."""
    console.print(text, soft_wrap=True, markup=False)


def result(what: str, **values: object) -> None:
    """Print the last line of a run, for people and machines."""
    pairs = " ".join(f"{key}={value}" for key, value in values.items())
    console.print(f"result {what} {pairs}", soft_wrap=True, markup=False)


def decimal(minor: int) -> str:
    """Return an amount of a two-decimal currency for people, without the currency."""
    sign = "-" if minor < 0 else ""
    whole, rest = divmod(abs(minor), 100)
    return f"{sign}{whole:,}.{rest:02d}"


def amount(minor: int, currency: str) -> str:
    """Return an amount of a two-decimal currency for people."""
    return f"{decimal(minor)} {currency}"
