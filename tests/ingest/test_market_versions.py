"""What is loaded of a market becomes its history."""

from datetime import timedelta
from decimal import Decimal

from loading import NOON, Store, market

from kalshidb.queries import catalog

NY = "KXRAIN-26NOV01-NY"
MINUTE = timedelta(minutes=1)


def history(store: Store) -> list[tuple[int, Decimal | None]]:
    """The minute at which each version began, with its last price."""
    rows = catalog.versions_of_market(store.conn, market_ticker=NY)
    return [((row.valid_from - NOON) // MINUTE, row.last_price) for row in rows]


def test_a_market_that_was_loaded_shows_its_quotes(store: Store) -> None:
    store.load(store.file("market.json", market(yes_bid_dollars="0.4100", yes_ask_dollars="0.4400")))
    current = catalog.current_market(store.conn, market_ticker=NY)
    assert current is not None
    assert (current.valid_from, current.yes_bid, current.spread) == (NOON, Decimal("0.41"), Decimal("0.03"))


def test_an_offer_of_nothing_is_none_in_the_version_too(store: Store) -> None:
    store.load(store.file("market.json", market(yes_ask_dollars="0.0000", no_bid_dollars="1.0000")))
    current = catalog.current_market(store.conn, market_ticker=NY)
    assert current is not None
    assert (current.yes_ask, current.no_bid) == (1, 0)


def test_what_is_polled_unchanged_is_one_version_and_what_comes_late_goes_where_it_belongs(store: Store) -> None:
    cents = [40, 40, 42, 42, 43]
    paths = [
        store.file(f"{minute}.json", market(last_price_dollars=f"0.{price}00"), seen=NOON + minute * MINUTE)
        for minute, price in enumerate(cents)
    ]
    for minute in (0, 4, 3, 1, 2):
        store.load(paths[minute])
    expected = [(0, Decimal("0.40")), (2, Decimal("0.42")), (4, Decimal("0.43"))]
    assert history(store) == expected
    report = store.load(*paths)
    assert (report.counts("market_version").read, report.total.written) == (5, 0)
    assert history(store) == expected


def test_two_states_of_one_moment_are_reported_and_the_first_stays(store: Store) -> None:
    first, second = (store.file(f"{price}.json", market(last_price_dollars=price)) for price in ("0.4000", "0.5000"))
    assert store.load(first).not_stored == {}
    report = store.load(second)
    assert report.not_stored == {"market_version (another is stored for the same moment)": 1}
    assert (report.counts("market_version").unchanged, report.counts("market_version").rejected) == (1, 0)
    assert history(store) == [(0, Decimal("0.40"))]
