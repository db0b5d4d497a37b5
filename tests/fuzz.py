"""Gives damaged files to every parser for as long as is wanted; what goes wrong is stored in tests/corpus, which the tests run again.

python tests/fuzz.py --minutes 60 [--only ply]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from hypothesis import HealthCheck, Phase, given, seed, settings
from support.fuzzing import CORPUS, TARGETS, check, damaged

_ROUND = 200  # files of one parser before the next has its turn


def main() -> int:
    """Number of parsers that something went wrong with."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=1.0)
    options.add_argument("--only", choices=TARGETS, action="append", help="this parser; repeatable")
    options.add_argument("--seed", type=int, default=0)
    given_options = options.parse_args()
    names = given_options.only or list(TARGETS)
    wrong: dict[str, str] = {}
    tried = dict.fromkeys(names, 0)
    end = time.monotonic() + 60 * given_options.minutes
    with tempfile.TemporaryDirectory() as temporary:
        seeds = {}
        for name in names:
            folder = Path(temporary) / "seeds" / name
            folder.mkdir(parents=True)
            seeds[name] = TARGETS[name].seeds(folder)
        turn = given_options.seed
        while time.monotonic() < end:
            for name in names:
                if name not in wrong and time.monotonic() < end:
                    tried[name] += _round(name, seeds[name], turn, Path(temporary) / name, wrong)
            turn += 1
    for name in names:
        print(f"{name:<16} {tried[name]:>8} files  {wrong.get(name, 'ok')}")
    return min(len(wrong), 1)


def _round(name: str, seeds: list[bytes], turn: int, folder: Path, wrong: dict[str, str]) -> int:
    """Tries some files; how many."""
    count = 0
    last = b""

    @seed(turn)
    @settings(
        max_examples=_ROUND,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(seeds))
    def some(data: bytes) -> None:
        nonlocal count, last
        count += 1
        last = data  # the one that fails is tried last, when it is as small as it gets
        check(name, data, folder)

    try:
        some()
    except Exception as error:  # noqa: BLE001  whatever a parser raises is what is looked for
        file = CORPUS / name / hashlib.sha256(last).hexdigest()[:12]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(last)
        wrong[name] = f"{type(error).__name__}: {error}, see {file}".replace("\n", " ")[:300]
        traceback.print_exception(error, limit=-3)
    return count


if __name__ == "__main__":
    sys.exit(main())
