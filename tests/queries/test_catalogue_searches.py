"""The catalogue looked through: by what is asked, by time, page by page."""

import random
from datetime import datetime
from typing import Any

import psycopg
import pytest
from sample_rows import DAY, HOUR, NOON, event, market, series

from kalshidb.models.catalog import Event, Market, MarketInput
from kalshidb.queries import catalog

NOTHING: dict[str, Any] = {"status": None, "category": None, "series_ticker": None, "event_ticker": None, "words": None}


@pytest.fixture
def rows(pg: psycopg.Connection) -> list[MarketInput]:
    """Sixty markets of two series; many close at the same moment."""
    chance = random.Random(2)  # noqa: S311
    catalog.upsert_series(pg, [series("KXRAIN", category="Climate"), series("KXCUP", category="Sports")])
    events = [
        event(f"{name}-{day}", series_ticker=name, category=kind, title=f"{kind} on day {day}?")
        for name, kind in (("KXRAIN", "Climate"), ("KXCUP", "Sports"))
        for day in range(5)
    ]
    catalog.upsert_events(pg, events)
    made = [
        market(
            f"{of.event_ticker}-{number}", status=chance.choice(["active", "closed"]), series_ticker=of.series_ticker, category=of.category,
            close_time=NOON + chance.randrange(8) * DAY, expiration_time=NOON + number * DAY, title=f"Will {number} happen?",
            yes_sub_title=chance.choice(["The Harbor wins", "the HARBOR loses", None]),
        )
        for of in events
        for number in range(6)
    ]  # fmt: skip
    catalog.upsert_markets(pg, made)
    return made


def searched(pg: psycopg.Connection, page_size: int, **asked: Any) -> list[Market]:  # noqa: ANN401
    """All pages of a search, one after the other."""
    found: list[Market] = []
    place: tuple[datetime, str] = (NOON, "")
    while page := catalog.search_markets(
        pg, **{**NOTHING, **asked}, closing_from=NOON, closing_to=NOON + 7 * DAY, after_close_time=place[0], after_market_ticker=place[1],
        page_size=page_size,
    ):  # fmt: skip
        found += page
        assert page[-1].close_time is not None
        place = (page[-1].close_time, page[-1].market_ticker)
    return found


@pytest.mark.parametrize("page_size", [1, 7, 1000])
@pytest.mark.parametrize(
    "asked",
    [
        {}, {"status": "active"}, {"category": "Sports"}, {"series_ticker": "KXRAIN"}, {"event_ticker": "KXCUP-3"}, {"words": "harbor"},
        {"words": "wILL 3"}, {"words": "%"}, {"status": "closed", "category": "Climate", "words": "wins"},
    ],
)  # fmt: skip
def test_a_search_gives_every_market_once_in_order_however_large_its_pages(
    pg: psycopg.Connection, rows: list[MarketInput], asked: dict[str, str], page_size: int
) -> None:
    def is_asked(row: MarketInput) -> bool:
        texts = [(text or "").lower() for text in (row.title, row.yes_sub_title)]
        plain = all(getattr(row, name) == value for name, value in asked.items() if name != "words")
        return plain and any(asked.get("words", "").lower() in text for text in texts)

    expected = sorted(
        (row.close_time, row.market_ticker)
        for row in rows
        if row.close_time and row.close_time < NOON + 7 * DAY and is_asked(row)
    )
    assert [(row.close_time, row.market_ticker) for row in searched(pg, page_size, **asked)] == expected
    assert bool(expected) == (asked != {"words": "%"})


def test_markets_that_close_soon_and_that_are_due_are_found(pg: psycopg.Connection, rows: list[MarketInput]) -> None:
    soon = catalog.open_markets_closing_between(pg, closing_from=NOON, closing_to=NOON + DAY + HOUR)
    assert {row.market_ticker for row in soon} == {
        row.market_ticker for row in rows if row.status == "active" and row.close_time in (NOON, NOON + DAY)
    }
    due = catalog.markets_expiring_between(pg, expiring_from=NOON, expiring_to=NOON + 2 * DAY)
    assert [row.expiration_time for row in due] == [NOON] * 10 + [NOON + DAY] * 10
    waiting = catalog.markets_awaiting_settlement(pg, statuses=["closed", "disputed"], closed_before=NOON + 3 * DAY)
    assert {row.market_ticker for row in waiting} == {
        row.market_ticker for row in rows if row.status == "closed" and row.close_time and row.close_time < NOON + 3 * DAY
    }
    assert [row.market_ticker for row in catalog.all_markets(pg)] == sorted(row.market_ticker for row in rows)


@pytest.mark.parametrize(
    ("asked", "count"), [({}, 10), ({"series_ticker": "KXCUP"}, 5), ({"category": "Climate"}, 5), ({"words": "day 3"}, 2)]
)
def test_events_are_searched_page_by_page(
    pg: psycopg.Connection, rows: list[MarketInput], asked: dict[str, str], count: int
) -> None:
    assert rows
    found: list[Event] = []
    place: tuple[datetime, str] = (NOON, "")
    nothing: dict[str, Any] = {"series_ticker": None, "category": None, "words": None}
    while page := catalog.search_events(
        pg, **{**nothing, **asked}, closing_from=NOON, closing_to=NOON + 9 * DAY, after_close_time=place[0], after_event_ticker=place[1],
        page_size=3,
    ):  # fmt: skip
        found += page
        assert page[-1].close_time is not None
        place = (page[-1].close_time, page[-1].event_ticker)
    assert len(found) == len({row.event_ticker for row in found}) == count
    assert [row.close_time for row in found] == sorted(row.close_time for row in found if row.close_time)
    assert len(list(catalog.all_events(pg))) == 10
