"""Nothing that arrives is lost, nothing is stored twice, and the order of arrival decides nothing."""

import json
import random
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loading import NOON, Store, all_rows, candle, differences, event, exact, market, pull_world, series, trade
from psycopg import errors

from kalshidb import postgres
from kalshidb.exchange.recognise import Hints
from kalshidb.ingest import intake as intake_module
from kalshidb.ingest.intake import Destination, Intake
from kalshidb.ingest.load import find_files, load_files
from kalshidb.queries import ops
from kalshidb.typedsql import BulkResult

ENDS = "0123456789ABCDEF"
WRONG = {
    "market": [("status", 7), ("yes_bid_dollars", "1.5"), ("open_time", "yesterday"), ("volume_fp", "-1"), ("title", "a\0b")],
    "trade": [("trade_id", "no-uuid"), ("count_fp", "1" * 17), ("yes_price_dollars", "0.12345678"), ("created_time", None)],
    "candlestick": [("volume_fp", "ten"), ("yes_bid", [1]), ("open_interest_fp", "1.005")],
    "series": [("title", 5), ("fee_multiplier", "much")],
    "event": [("event_ticker", "with space"), ("mutually_exclusive", "maybe")],
}  # fmt: skip


def thing(kind: str, number: int) -> dict[str, object]:
    made = {
        "market": lambda: market(f"KXRAIN-26NOV01-M{number}"),
        "trade": lambda: trade(number),
        "candlestick": lambda: candle(1_793_534_400 + number * 3600, period_interval=60, ticker="KXRAIN-26NOV01-NY"),
        "series": lambda: series(f"KXRAIN{number}"),
        "event": lambda: event(f"KXRAIN-26NOV{number}"),
    }
    return made[kind]()


Choice = tuple[str, int, int | None]  # kind, number, which of its wrong fields
choices = st.lists(
    st.sampled_from(sorted(WRONG)).flatmap(
        lambda kind: st.tuples(
            st.just(kind), st.integers(1, 30), st.none() | st.integers(0, len(WRONG[kind]) - 1)
        )
    ),
    min_size=1, max_size=25,
)  # fmt: skip


@given(mix=choices, as_lines=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_any_mix_every_object_is_stored_or_kept_with_its_exact_payload(
    store: Store, mix: Sequence[Choice], as_lines: bool
) -> None:
    store.conn.execute("SET kalshidb.allow_purge = on")
    for table in ("catalog.series", "catalog.events", "catalog.markets", "market_data.public_trades", "ops.rejected_payloads"):
        store.conn.execute(f"SET kalshidb.allow_purge = on; TRUNCATE {table} CASCADE")
    bad: dict[tuple[str, str], str] = {}
    made = []
    for kind, number, wrong in mix:
        one = thing(kind, number)
        if wrong is not None:
            field, value = WRONG[kind][wrong]
            one[field] = value
            bad[kind, json.dumps(one, sort_keys=True)] = field
        made.append(one)
    report = store.load(
        store.file("mix.jsonl" if as_lines else "mix.json", "\n".join(map(json.dumps, made)) if as_lines else made)
    )

    objects = {kind: [choice for choice in mix if choice[0] == kind] for kind in WRONG}
    for kind, chosen in objects.items():
        counts = report.counts(kind)
        assert (counts.read, counts.rejected) == (len(chosen), sum(wrong is not None for _, _, wrong in chosen))
        assert counts.written == len({number for _, number, wrong in chosen if wrong is None})
    kept = {(reject.kind, json.dumps(json.loads(reject.payload), sort_keys=True)): reject for reject in store.rejects()}
    assert kept.keys() == bad.keys()
    for key, field in bad.items():
        assert any(error["field"].startswith(field) for error in kept[key].errors)
    assert sum(reject.seen_count for reject in kept.values()) == report.total.rejected


@pytest.mark.parametrize(
    ("table", "bad", "says"),
    [
        ("price_snapshot", market("KXRAIN-26NOV01-BAD", yes_bid_dollars="0.5000", yes_ask_dollars="0.4000"), "bid_below_ask"),
        ("trade", trade(9_999, trade_id="seven"), "trade_id"),
        ("trade", trade(9_999, count_fp="99999999999999999"), "count"),
        ("trade", trade(9_999, no_price_dollars="0.9900"), "do not sum to 1"),
    ],
    ids=["crossed quote", "id that is no UUID", "count beyond numeric", "prices that do not add up"],
)  # fmt: skip
def test_one_impossible_row_among_thousands_is_refused_alone(store: Store, table: str, bad: dict[str, object], says: str) -> None:
    many = [market(f"KXRAIN-26NOV01-M{n}") for n in range(1200)] if table == "price_snapshot" else [trade(n) for n in range(6000)]
    many.insert(777, bad)
    report = store.give(many)
    assert (report.counts(table).written, report.total.rejected) == (len(many) - 1, 1)
    (reject,) = store.rejects()
    assert json.loads(reject.payload) == bad
    assert any(says in error["field"] + error["error"] for error in reject.errors)


def test_a_row_that_only_the_database_refuses_is_found_by_halving(store: Store) -> None:
    store.conn.execute("ALTER TABLE market_data.public_trades ADD CONSTRAINT no_sevens CHECK (count <> 7)")
    many = [trade(n, count_fp="7.00" if n in {5, 2_222, 5_999} else "1.00") for n in range(6_000)]
    report = store.give(many)
    assert (report.counts("trade").written, report.counts("trade").rejected) == (5_997, 3)
    assert {json.loads(reject.payload)["trade_id"][-4:] for reject in store.rejects()} == {"0005", "2222", "5999"}
    for reject in store.rejects():
        assert (reject.kind, reject.errors[0]["field"]) == ("trade", "no_sevens")
        assert "SQLSTATE 23514" in reject.errors[0]["error"]
    store.conn.execute("ALTER TABLE market_data.public_trades DROP CONSTRAINT no_sevens")
    assert (store.retry().resolved, store.count("market_data.public_trades")) == (3, 6_000)


def test_an_object_that_is_refused_as_two_rows_is_one_reject_with_both_reasons(store: Store) -> None:
    store.conn.execute("ALTER TABLE catalog.markets ADD CONSTRAINT no_rain CHECK (title <> 'no')")
    store.conn.execute("ALTER TABLE market_data.price_snapshots ADD CONSTRAINT no_quote CHECK (yes_bid <> 0.4)")
    report = store.give(market(title="no"))
    assert (report.counts("market").rejected, report.counts("price_snapshot").rejected) == (1, 1)
    (reject,) = store.rejects()
    assert ([error["field"] for error in reject.errors], reject.seen_count) == (["no_rain", "no_quote"], 1)


@pytest.mark.parametrize("deadlocks", [1, 5, 6])
def test_a_deadlock_with_another_program_is_tried_again_and_refuses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, deadlocks: int
) -> None:
    model, write = intake_module._WRITERS[Destination.TRADE]
    left = [errors.DeadlockDetected("played")] * deadlocks

    def unlucky(conn: psycopg.Connection, rows: Iterable[object]) -> BulkResult:
        if left:
            raise left.pop()
        return write(conn, rows)

    monkeypatch.setitem(intake_module._WRITERS, Destination.TRADE, (model, unlucky))
    if deadlocks > intake_module.DEADLOCK_RETRIES:
        with pytest.raises(errors.DeadlockDetected):
            store.give(trade())
        assert store.column("SELECT status FROM ops.ingest_runs") == ["failed"]
        monkeypatch.undo()
    assert store.give(trade()).counts("trade").written == 1
    assert store.rejects() == []


def test_the_run_says_what_the_report_says(store: Store) -> None:
    report = store.give([market(), market(status=7), trade()])
    run = ops.ingest_run(store.conn, run_id=report.run_id)
    assert run is not None
    assert run.status == "rejected_some"
    total = report.total
    assert (run.rows_read, run.rows_written, run.rows_unchanged, run.rows_rejected) == (
        total.read, total.written, total.unchanged, total.rejected,
    )  # fmt: skip
    assert run.rows_by_kind == {kind: counts.as_dict() for kind, counts in report.by_kind.items()}


def test_a_run_is_named_after_any_source(store: Store) -> None:
    with Intake(store.conn, "load a\0b\udcff", origin="backfill") as intake:
        pass
    assert store.value("SELECT source FROM ops.ingest_runs WHERE run_id = %s", intake.report.run_id) == "load a\\0b\\udcff"


@pytest.mark.parametrize("when", ["taking", "leaving"])
def test_a_run_that_fails_says_so(store: Store, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the disk\0 is full\udc00")

    def loads(intake: Intake) -> None:
        with intake:
            intake.take(market(), "here", Hints(), NOON)
            monkeypatch.setattr(Intake, "_bulk", broken)
            if when == "taking":
                broken()

    intake = Intake(store.conn, "a test", origin="backfill")
    with pytest.raises(RuntimeError):
        loads(intake)
    run = ops.ingest_run(store.conn, run_id=intake.report.run_id)
    assert run is not None
    assert (run.status, run.rows_read, run.error) == ("failed", 0, "RuntimeError: the disk\\0 is full\\udc00")


def test_a_run_is_seen_by_nobody_before_it_holds_its_lock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run that begins at the same time takes it for dead."""
    hold = ops.hold_ingest_run

    def late(conn: psycopg.Connection, *, run_id: int) -> bool:
        with postgres.connect(store.url, autocommit=True) as other:
            assert ops.abandon_dead_runs(other) == 0
        return hold(conn, run_id=run_id)

    monkeypatch.setattr(ops, "hold_ingest_run", late)
    report = store.give(market())
    assert store.value("SELECT status FROM ops.ingest_runs WHERE run_id = %s", report.run_id) == "succeeded"


# A second time


def test_a_second_run_over_the_simulated_exchange_writes_nothing(store: Store) -> None:
    first, _ = pull_world(store.conn)
    before = store.rows(without=())
    second, _ = pull_world(store.conn)
    assert first.total.written > 5_000
    assert (second.total.written, second.total.unchanged) == (0, first.total.read)
    assert differences(before, store.rows(without=())) == {}


def test_a_second_run_over_the_recorded_answers_writes_nothing(store: Store, samples: Path) -> None:
    first = store.load(samples)
    before = store.rows()
    second = store.load(samples)
    assert first.total.written > 500
    assert {kind: counts.written for kind, counts in second.kinds.items() if counts.written} == {}
    assert second.total.rejected == first.total.rejected
    assert differences(before, store.rows()) == {}


def test_every_refusal_among_the_recorded_answers_is_explained(store: Store, samples: Path) -> None:
    store.load(samples)
    for reject in store.rejects():
        assert all(error["error"] for error in reject.errors)
    # The one book whose request alone said which market it was.
    assert [(reject.kind, reject.errors[0]["hint"]) for reject in store.rejects()] == [("orderbook", "say it with --ticker")]


def test_the_order_of_the_recorded_files_decides_nothing(store: Store, samples: Path, another_database_url: str) -> None:
    files = find_files([samples])
    store.load(*files.files)
    shuffled = list(files.files)
    random.Random(5).shuffle(shuffled)  # noqa: S311
    with postgres.connect(another_database_url, autocommit=True) as conn:
        for path in shuffled:  # each in a run of its own: batches hide what comes later
            with Intake(conn, "shuffled", origin="backfill") as intake:
                load_files(intake, find_files([path]), Hints())
        assert differences(store.rows(), all_rows(conn)) == {}


def test_the_order_of_files_from_many_times_decides_nothing(store: Store, another_database_url: str) -> None:
    """Answers of three days about the same things, each day's different, some of them equal again on the third."""
    days = [NOON + timedelta(days=day) for day in range(3)]
    for number, (day, price) in enumerate(zip(days, ("0.4100", "0.4200", "0.4100"), strict=True)):
        store.file(f"{number}/series.json", series(title=f"Rain {price}"), seen=day)
        store.file(f"{number}/event.json", event(title=f"Rain {price}?"), seen=day)
        store.file(
            f"{number}/market.json", market(last_price_dollars=price, status="active" if number < 2 else "closed"), seen=day
        )
        store.file(f"{number}/candle.json", {"ticker": "KXRAIN-26NOV01-NY", "period_interval": 60,
                                             "candlesticks": [candle(volume_fp=str(number % 2))]}, seen=day)  # fmt: skip
        store.file(f"{number}/trade.json", trade(), seen=day)
        store.file(f"{number}/orphan.json", market("KXSNOW-1-X", event_ticker="KXSNOW-1"), seen=day)
    paths = list(find_files([store.folder]).files)
    store.load(*paths)
    expected = all_rows(store.conn)
    for seed in range(6):
        random.Random(seed).shuffle(paths)  # noqa: S311
        with postgres.connect(another_database_url, autocommit=True) as conn:
            conn.execute("SET kalshidb.allow_purge = on")
            for table in ("catalog.series", "catalog.events", "catalog.markets", "market_data.public_trades"):
                conn.execute(f"SET kalshidb.allow_purge = on; TRUNCATE {table} CASCADE")
            for path in paths:
                with Intake(conn, "shuffled", origin="backfill") as intake:
                    load_files(intake, find_files([path]), Hints())
            found = all_rows(conn)
        assert differences(expected, found) == {}, f"in the order of seed {seed}"


@pytest.mark.parametrize("newest_first", [False, True])
def test_an_older_answer_never_overwrites_a_newer_one(store: Store, newest_first: bool) -> None:
    answers = [
        (NOON, [market(last_price_dollars="0.1000"), {"ticker": "KXRAIN-26NOV01-NY", "period_interval": 60,
                                                      "candlesticks": [candle(volume_fp="1.00")]}]),
        (NOON + timedelta(hours=1), [market(last_price_dollars="0.2000"), {"ticker": "KXRAIN-26NOV01-NY", "period_interval": 60,
                                                                           "candlesticks": [candle(volume_fp="2.00")]}]),
    ]  # fmt: skip
    for seen, answer in reversed(answers) if newest_first else answers:
        assert store.give(answer, seen=seen).total.rejected == 0
    assert store.value("SELECT last_price FROM catalog.markets") == Decimal("0.2")
    assert store.value("SELECT volume FROM market_data.candlesticks") == 2


def test_an_old_answer_that_was_refused_does_not_pass_for_a_new_one_when_it_is_tried_again(store: Store) -> None:
    store.conn.execute("ALTER TABLE catalog.markets ADD CONSTRAINT not_yet CHECK (title <> 'old')")
    store.give(market(title="old"), seen=NOON)
    store.conn.execute("ALTER TABLE catalog.markets DROP CONSTRAINT not_yet")
    store.give(market(title="new"), seen=NOON + timedelta(days=1))
    assert store.retry().resolved == 1
    assert store.value("SELECT title FROM catalog.markets") == "new"


# Exact values


def test_trades_that_differ_in_their_id_only_are_all_stored(store: Store) -> None:
    assert store.give({"trades": [trade(1), trade(2), trade(3)]}).counts("trade").written == 3
    assert store.count("market_data.public_trades") == 3


def test_prices_and_counts_survive_digit_for_digit(store: Store) -> None:
    text = json.dumps(trade(count_fp="0.01", yes_price_dollars="0.1050", no_price_dollars="0.8950", note="HERE"))
    text = text.replace('"HERE"', "0.10500000000000000000000000000000000001")
    store.give(text, keep_raw=True)
    row = store.conn.execute("SELECT yes_price::text, count::text, raw_json::text FROM market_data.public_trades").fetchone()
    assert row is not None
    yes_price, count, raw = row
    assert (yes_price, count) == ("0.105000", "0.01")
    assert exact(raw) == exact(text)
    assert "0.10500000000000000000000000000000000001" in raw


def test_the_raw_answer_of_a_market_keeps_its_numbers(store: Store) -> None:
    text = json.dumps(market(floor_strike="HERE")).replace('"HERE"', "67.120")
    store.give(text)
    assert '"floor_strike": 67.120' in store.value("SELECT raw_json::text FROM catalog.markets")
    assert store.value("SELECT floor_strike FROM catalog.markets") == Decimal("67.12")


def test_a_day_of_25_hours_has_its_candlestick(store: Store) -> None:
    midnights = [1_793_419_200, 1_793_505_600, 1_793_595_600, 1_793_682_000]  # of New York, whose 1 November is the long one
    assert [later - earlier for earlier, later in pairwise(midnights)] == [86_400, 90_000, 86_400]
    days = {"ticker": "KXRAIN-26NOV01-NY", "candlesticks": [candle(end) for end in midnights]}
    assert store.give(days).counts("candlestick").written == 4
    assert store.column("SELECT DISTINCT period_interval_minutes FROM market_data.candlesticks") == [1440]


def test_a_batch_of_rows_is_small_enough_to_be_written_on_the_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "BATCH_ROWS", 10)
    lines = [json.dumps(trade(n)) if n % 3 else "{broken" for n in range(100)]
    with Intake(store.conn, "a test", origin="backfill") as intake:
        load_files(intake, find_files([store.file("trades.jsonl", "\n".join(lines))]), Hints())
        assert store.count("market_data.public_trades") > 50
        assert store.count("ops.rejected_payloads") > 25
