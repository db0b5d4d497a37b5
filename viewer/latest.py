"""Work on what came last: for callbacks that come faster than their work is done."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Latest(Generic[Item]):
    """A thread that works on the newest item given to it; those that came in between are passed over."""

    def __init__(self, work: Callable[[Item], None], pause_s: float = 0.0) -> None:
        """`work` is called in a thread of its own, at most once at a time, and `pause_s` seconds apart."""
        self._work, self._pause_s = work, pause_s
        self._items: list[Item] = []
        self._changed = threading.Condition()
        self._open, self._idle = True, True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def give(self, item: Item) -> None:
        """Puts an item in the place of one that has not been begun."""
        with self._changed:
            self._items = [item]
            self._changed.notify_all()

    @property
    def busy(self) -> bool:
        """Whether there is an item that is not done."""
        with self._changed:
            return bool(self._items) or not self._idle

    def close(self) -> None:
        """Ends the thread once its current item is done; one that waits is dropped."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._idle = True
                self._changed.wait_for(lambda: self._items or not self._open)
                if not self._open:
                    return
                item = self._items.pop()
                self._idle = False
            try:
                self._work(item)
            except Exception:  # noqa: BLE001  said, and the next item is tried: one bad frame must not end the view
                traceback.print_exc()
            if self._pause_s:
                time.sleep(self._pause_s)
