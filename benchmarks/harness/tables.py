"""Markdown tables that grow on the terminal row by row."""

from __future__ import annotations

from collections.abc import Sequence


class Table:
    """Prints its head when made and each row as it comes."""

    def __init__(self, title: str, columns: Sequence[str]) -> None:
        self.columns = len(columns)
        print(f"\n{title}\n\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)

    def row(self, *cells: str | float | None) -> None:
        """One row; None is a dash, floats are given three digits."""
        if len(cells) != self.columns:
            raise ValueError(f"{len(cells)} cells in a table of {self.columns} columns")
        print("| " + " | ".join(map(cell, cells)) + " |", flush=True)


def cell(value: str | float | None) -> str:
    """As it stands in a table."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value
