"""Reading ahead: order kept, errors passed on in their place, the thread gone when nobody listens any more."""

import threading
from collections.abc import Iterator
from itertools import count, islice

import pytest

from kalshidb.ingest.ahead import ahead


def readers() -> int:
    return sum(thread.name == "reading ahead" for thread in threading.enumerate())


def test_things_come_in_order_and_the_thread_ends() -> None:
    assert list(ahead(range(1000))) == list(range(1000))
    assert readers() == 0


def test_never_more_than_so_many_are_ahead() -> None:
    taken = 0

    def things() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    for number in ahead(things(), most=3):
        assert taken <= number + 1 + 3 + 1  # this one, those that wait, and the one that found no room


def test_large_things_count_for_more_and_one_is_always_let_through() -> None:
    taken: list[int] = []

    def things() -> Iterator[int]:
        for size in [4, 4, 4, 100, 1, 1]:
            taken.append(size)
            yield size

    for number, _ in enumerate(ahead(things(), most=8, size=lambda size: size)):
        assert sum(taken[number + 1 : -1]) <= 8 or len(taken[number + 1 : -1]) == 1, "but for the one that found no room"
    assert taken == [4, 4, 4, 100, 1, 1]


def test_an_error_comes_after_what_came_before_it() -> None:
    def things() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third is bad")

    numbers = ahead(things())
    assert list(islice(numbers, 2)) == [1, 2]
    with pytest.raises(ValueError, match="the third is bad"):
        next(numbers)
    assert readers() == 0


def test_the_thread_ends_when_nobody_takes_any_more() -> None:
    numbers = ahead(count())
    assert list(islice(numbers, 5)) == [0, 1, 2, 3, 4]
    assert readers() == 1
    numbers.close()  # type: ignore[attr-defined]
    assert readers() == 0
