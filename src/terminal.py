"""What a person reads in a terminal: an error in one line, a table with all its columns."""

from rich.console import Console
from rich.table import Table


def reason(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind where it says nothing."""
    return (str(error) or repr(error)).splitlines()[0]


def uncut(table: Table) -> Table:
    """Make a table as wide as it is, also where the terminal is narrower: else columns are cut."""
    table.width = Console(width=10_000).measure(table).maximum
    return table
