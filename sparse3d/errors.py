"""The one error for what a user can put right, and the way to reach an optional library."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class UserError(Exception):
    """Something the user can put right: printed without a traceback, exit code 2.

    The message says what was found, what was needed and the next step.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'steps'?` for the nearest known word, or an empty string when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Imports an optional library where it is used.

    Args:
        module: Name to import, as `pillow_heif`.
        extra: The extra of this package that brings it, as `heic`.
        purpose: What the user was about to do, as `reading HEIC photos`.

    Raises:
        UserError: the library is not installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{purpose} needs {module}. Install it with: pip install 'sparse3d[{extra}]'") from error
