"""Reading the next answers while the last are written.

The server works while the client waits for it; with what is read ahead the client works too. Only so much is ever ahead, so memory
stays flat.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def _one(_: object) -> int:
    return 1


def ahead(things: Iterable[T], most: int = 4, size: Callable[[T], int] = _one) -> Iterator[T]:
    """Yield things in order, taken from the iterable in a thread that is at most so much ahead.

    What the iterable raises is raised here, after what came before it. Closing the iterator ends the thread.

    Args:
        things: taken from in the thread.
        most: how much may be ahead, besides the one thing that is being made; one thing always may, whatever its size.
        size: what a thing counts for; by default each counts for one.
    """
    ready: deque[tuple[T, int]] = deque()
    changed = threading.Condition()
    held = 0
    gone = False
    end: BaseException | bool = False

    def run() -> None:
        nonlocal held, end
        ended: BaseException | bool = True
        try:
            for thing in things:
                weight = size(thing)
                with changed:
                    changed.wait_for(lambda: gone or not ready or held + weight <= most)  # noqa: B023  (waited for at once)
                    if gone:
                        return
                    ready.append((thing, weight))
                    held += weight
                    changed.notify_all()
        except BaseException as error:
            ended = error
        finally:
            with changed:
                end = ended
                changed.notify_all()

    reader = threading.Thread(target=run, name="reading ahead", daemon=True)
    reader.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: ready or end)
                if not ready:
                    break
                thing, weight = ready.popleft()
                held -= weight
                changed.notify_all()
            yield thing
        if isinstance(end, BaseException):
            raise end
    finally:
        with changed:
            gone = True
            changed.notify_all()
        reader.join()
