"""Reading the next answers while the last are written.

The server works while the client waits for it; with what is read ahead the client works too. Only a few things are ever
ahead, so memory stays flat.
"""

import threading
from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")

_LOOK_AGAIN = 0.1  # seconds between two looks at whether the other side has gone away


def ahead(things: Iterable[T], most: int = 4) -> Iterator[T]:
    """Yield things in order, taken from the iterable in a thread that is at most so many ahead.

    What the iterable raises is raised here, after what came before it. Closing the iterator ends the thread.
    """
    ready: Queue[tuple[T] | BaseException | None] = Queue(most)
    gone = threading.Event()

    def put(thing: tuple[T] | BaseException | None) -> bool:
        while not gone.is_set():
            try:
                ready.put(thing, timeout=_LOOK_AGAIN)
            except Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            for thing in things:
                if not put((thing,)):
                    return
            put(None)
        except BaseException as error:
            put(error)

    reader = threading.Thread(target=run, name="reading ahead", daemon=True)
    reader.start()
    try:
        while True:
            try:
                thing = ready.get(timeout=_LOOK_AGAIN)
            except Empty:
                continue
            if thing is None:
                return
            if isinstance(thing, BaseException):
                raise thing
            yield thing[0]
    finally:
        gone.set()
        reader.join()
