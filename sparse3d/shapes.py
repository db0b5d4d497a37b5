"""Shape checks written the way papers write shapes: "V 4 4"."""

from __future__ import annotations

from typing import Any


def check_shapes(**arrays: tuple[Any, str]) -> dict[str, int]:
    """Sizes of the named dimensions, after checking every array against its shape.

    A shape is a string of words: a number is that size, a letter is any size but the same in every array
    of one call. Example: `check_shapes(c2w=(c2w, "V 4 4"), K=(K, "V 3 3"))`.

    Args:
        arrays: name=(tensor or array, shape).

    Returns:
        The size bound to each letter.

    Raises:
        ValueError: an array has another shape, or two arrays disagree on a letter.
    """
    sizes: dict[str, int] = {}
    for name, (array, shape) in arrays.items():
        wanted = shape.split()
        found = tuple(array.shape)
        fits = len(found) == len(wanted)
        for size, word in zip(found, wanted, strict=False):
            fits &= size == (int(word) if word.isdigit() else sizes.setdefault(word, size))
        if not fits:
            known = ", ".join(f"{letter}={size}" for letter, size in sizes.items())
            raise ValueError(
                f"{name} has shape {found}, needed ({', '.join(wanted)})" + (f" with {known}" if known else "")
            )
    return sizes
