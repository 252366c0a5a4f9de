"""Versions of strategies and models, never changed and ordered as versions are; matrices; analyses."""

import random
import threading
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sample_rows import DAY, HOUR, NOON, SECOND, market
from trading_rows import T80, dollars, model, opened, strategy

from kalshidb.models.research import MarketAnalysisInput, ProbabilityMatrixInput
from kalshidb.queries import catalog, research

KINDS: dict[str, Any] = {
    "strategies": (strategy, "strategy_id", research.set_strategy_status, research.strategy_versions, "strategy"),
    "probability_models": (model, "model_id", research.set_model_status, research.model_versions, "model"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_same_version_again_is_the_same_version(pg: psycopg.Connection, kind: str) -> None:
    register, number, *_ = KINDS[kind]
    first = register(pg, description="as it began")
    pg.commit()
    again = register(pg, description="as it is told now", status="draft")
    assert getattr(again, number) == getattr(first, number)
    assert again == first, "what is stored stays"


@pytest.mark.parametrize(("field", "change"), [("config", {"config": {"other": "0.1"}}), ("sport", {"sport": "nba"})])
def test_another_config_under_the_same_version_is_refused_and_told_to_be_a_new_version(
    pg: psycopg.Connection, kind: str, field: str, change: dict[str, Any]
) -> None:
    register = KINDS[kind][0]
    register(pg)
    with pytest.raises(errors.RestrictViolation, match="cannot be changed") as refused:
        register(pg, **change)
    diag = refused.value.diag
    assert (diag.constraint_name, diag.column_name) == (f"{kind}_immutable_config", field)
    assert "insert a new version" in (diag.message_hint or "")


def test_the_server_itself_keeps_a_config(pg: psycopg.Connection, kind: str) -> None:
    """Whoever writes, also with psql, and to whatever of name, version, type, sport and config."""
    KINDS[kind][0](pg)
    pg.commit()
    word = kind[:-3] + "y" if kind == "strategies" else "model"
    sets = {f"{word}_name": "'x'", f"{word}_version": "'v9.0'", f"{word}_type": f"'{'exit' if word == 'strategy' else 'ml'}'",
            "sport": "NULL", "config": "'{}'", "created_at": "'2020-01-01'"}  # fmt: skip
    for column, value in sets.items():
        with pytest.raises(errors.RestrictViolation) as refused, pg.transaction():
            pg.execute(f"UPDATE research.{kind} SET {column} = {value}")  # type: ignore[arg-type]  # noqa: S608
        assert refused.value.diag.column_name == column
    pg.execute(f"UPDATE research.{kind} SET notes = 'may change', status = 'deprecated'")  # type: ignore[arg-type]  # noqa: S608


def test_versions_are_ordered_as_versions_and_not_as_text(pg: psycopg.Connection, kind: str) -> None:
    register, _, _, versions, word = KINDS[kind]
    order = [
        "v0.9", "v1.0", "1.1.0-alpha", "1.1.0-alpha.1", "1.1.0-alpha.2", "1.1.0-alpha.10", "1.1.0-alpha.beta", "1.1.0-rc1", "v1.1",
        "v1.2", "v1.10", "v2.0", "2.0.3", "v10.0", "2026.11",
    ]  # fmt: skip
    shuffled = order[:]
    random.Random(7).shuffle(shuffled)  # noqa: S311
    for version in shuffled:
        register(pg, version)
    register(pg, "v3.0", name="another")
    found = versions(pg, **{f"{word}_name": register(pg).model_dump()[f"{word}_name"]})
    assert [row.model_dump()[f"{word}_version"] for row in found] == order[::-1]


def test_the_status_moves_on_and_updated_at_only_with_it(pg: psycopg.Connection, kind: str) -> None:
    register, number, set_status, *_ = KINDS[kind]
    row = register(pg, status="draft")
    key = {number: getattr(row, number)}
    pg.commit()
    same = set_status(pg, **key, status="draft")
    assert same == row
    pg.commit()
    active = set_status(pg, **key, status="active")
    assert (active.status, active.updated_at > row.updated_at) == ("active", True)
    assert set_status(pg, **{number: 999}, status="active") is None
    with pytest.raises(errors.CheckViolation) as refused, pg.transaction():
        set_status(pg, **key, status="retired")
    assert refused.value.diag.constraint_name == f"{kind}_status_check"


@pytest.mark.parametrize(
    ("path", "hint"), [(["active", "draft"], "as a draft"), (["deprecated", "active"], "insert a new version")]
)
def test_what_was_used_is_no_draft_and_what_was_retired_stays_so(
    pg: psycopg.Connection, kind: str, path: list[str], hint: str
) -> None:
    register, number, set_status, *_ = KINDS[kind]
    key = {number: getattr(register(pg, status="draft"), number)}
    set_status(pg, **key, status=path[0])
    with pytest.raises(errors.RestrictViolation, match=f"from {path[0]} to {path[1]}") as refused:
        set_status(pg, **key, status=path[1])
    assert refused.value.diag.constraint_name == f"{kind}_lifecycle"
    assert hint in (refused.value.diag.message_hint or "")


def test_the_active_ones_are_those_in_use(pg: psycopg.Connection) -> None:
    for version, status in [("v1.0", "deprecated"), ("v1.9", "active"), ("v1.10", "active"), ("v2.0", "draft")]:
        strategy(pg, version, status=status)
        model(pg, version, status=status)
    strategy(pg, "v1.0", name="a_strategy", status="active")
    assert [(row.strategy_name, row.strategy_version) for row in research.active_strategies(pg)] == [
        ("a_strategy", "v1.0"), ("halftime_entry", "v1.10"), ("halftime_entry", "v1.9"),
    ]  # fmt: skip
    assert [row.model_version for row in research.active_models(pg)] == ["v1.10", "v1.9"]


def test_metrics_that_are_given_are_set_and_others_stay(pg: psycopg.Connection) -> None:
    row = strategy(pg)
    pg.commit()
    unset: dict[str, Any] = {"live_roi": None, "live_trades_count": None}
    first = research.set_strategy_metrics(
        pg, strategy_id=row.strategy_id, paper_roi=dollars("0.15"), paper_trades_count=42, **unset
    )
    assert first is not None
    assert (first.paper_roi, first.paper_trades_count, first.live_roi, first.live_trades_count) == (dollars("0.15"), 42, None, 0)
    assert first.updated_at > row.updated_at
    pg.commit()
    again = research.set_strategy_metrics(
        pg, strategy_id=row.strategy_id, paper_roi=dollars("0.150000"), paper_trades_count=None, **unset
    )
    assert again == first
    validated = research.set_model_validation(
        pg, model_id=model(pg).model_id, validation_accuracy=dollars("0.61"), validation_calibration=None,
        validation_sample_size=1000,
    )  # fmt: skip
    assert validated is not None
    assert (validated.validation_accuracy, validated.validation_sample_size) == (dollars("0.61"), 1000)


def test_what_a_config_says_comes_back_digit_for_digit(pg: psycopg.Connection) -> None:
    said = {"edge": Decimal("0.10"), "text": "0.1000", "nested": {"k": [1, None, True]}}
    stored = strategy(pg, config=said)
    assert stored.config["text"] == "0.1000"
    (text,) = pg.execute("SELECT config ->> 'edge' FROM research.strategies").fetchone() or ("",)
    assert text == "0.10"


def test_a_version_that_is_none_and_a_config_that_is_no_object_are_refused(pg: psycopg.Connection) -> None:
    with pytest.raises(errors.CheckViolation) as refused, pg.transaction():
        strategy(pg, "latest")
    assert refused.value.diag.constraint_name == "version_form_check"
    with pytest.raises(errors.CheckViolation) as refused, pg.transaction():
        strategy(pg, config=[1, 2])
    assert refused.value.diag.constraint_name == "strategies_config_check"
    strategy(pg, "v1.0.0-rc.1+build.5")


# -- matrices ----------------------------------------------------------------------------------------------------------------------


def cell(bucket: str = "10+_points", wins: str = "0.7", factors: Any = None, **changes: Any) -> ProbabilityMatrixInput:  # noqa: ANN401
    row = {"category": "sports", "subcategory": "nfl", "version": "v1.0", "state_descriptor": "halftime", "sample_size": 100}
    return ProbabilityMatrixInput(
        value_bucket=bucket, win_probability=dollars(wins), situational_factors=factors, **(row | changes)
    )


LOOKUP: dict[str, Any] = {"category": "sports", "subcategory": "nfl", "version": "v1.0", "state_descriptor": "halftime"}


def test_cells_are_written_in_bulk_and_changed_where_they_differ(pg: psycopg.Connection) -> None:
    cells = [cell(), cell(factors={"home": True}), cell("3-6_points", "0.55")]
    assert research.upsert_probability_matrices(pg, cells).inserted == 3
    pg.commit()
    before = pg.execute("SELECT probability_id, xmin::text FROM research.probability_matrices").fetchall()
    pg.commit()
    again = research.upsert_probability_matrices(pg, cells)
    assert (again.written, again.unchanged) == (0, 3)
    assert pg.execute("SELECT probability_id, xmin::text FROM research.probability_matrices").fetchall() == before
    changed = research.upsert_probability_matrices(pg, [cell(wins="0.71"), cell("3-6_points", "0.55")])
    assert (changed.inserted, changed.updated, changed.unchanged) == (0, 1, 1)


def test_the_cell_of_a_situation_is_the_one_that_knows_most_of_it(pg: psycopg.Connection) -> None:
    cells = [cell(wins="0.5"), cell(wins="0.6", factors={"home": True}),
             cell(wins="0.7", factors={"home": True, "favourite": True}), cell(wins="0.1", factors={"rain": True})]  # fmt: skip
    research.upsert_probability_matrices(pg, cells)

    def wins(factors: object, bucket: str = "10+_points") -> Decimal | None:
        found = research.probability_cell(pg, **LOOKUP, value_bucket=bucket, situational_factors=factors)
        return found and found.win_probability

    assert wins({}) == dollars("0.5")
    assert wins({"home": True, "cold": True}) == dollars("0.6")
    assert wins({"home": True, "favourite": True}) == dollars("0.7")
    assert wins({"home": False}) == dollars("0.5")
    assert wins({}, "unheard of") is None
    assert len(research.probability_cells(pg, **LOOKUP, value_bucket="10+_points")) == 4
    assert len(research.probability_matrix(pg, category="sports", subcategory="nfl", version="v1.0")) == 4


def test_an_interval_that_does_not_hold_its_probability_is_refused(pg: psycopg.Connection) -> None:
    wrong = cell(confidence_interval_lower=dollars("0.71"), confidence_interval_upper=dollars("0.8"))
    with pytest.raises(errors.CheckViolation) as refused:
        research.upsert_probability_matrices(pg, [cell("a"), wrong])
    assert refused.value.diag.constraint_name == "probability_matrices_confidence_interval_check"


# -- analyses ----------------------------------------------------------------------------------------------------------------------


def analysis(at: datetime = NOON, ticker: str = T80, **changes: Any) -> MarketAnalysisInput:  # noqa: ANN401
    row = {
        "ai_provider": "xai", "analysis_text": "Strong momentum", "cost": dollars("0.05"), "decision": "OPEN_YES",
        "confidence": dollars("0.85"), "metadata": {"model": "grok-beta", "tokens": 1250},
    }  # fmt: skip
    return MarketAnalysisInput(market_ticker=ticker, analyzed_at=at, **(row | changes))


def test_analyses_are_added_once_and_an_unknown_market_gets_a_stub(pg: psycopg.Connection) -> None:
    rows = [analysis(), analysis(NOON + HOUR, decision="SKIP"), analysis(NOON + HOUR, ai_provider="openai", decision=None)]
    assert research.insert_market_analyses(pg, rows).written == 3
    assert research.insert_market_analyses(pg, rows[::-1]).written == 0
    stored = catalog.market_by_ticker(pg, market_ticker=T80)
    assert stored is not None
    assert stored.is_stub


def test_other_content_under_the_same_key_is_reported_and_nothing_is_written(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market()])
    research.insert_market_analyses(pg, [analysis()])
    pg.commit()
    with pytest.raises(errors.RestrictViolation) as refused:
        research.insert_market_analyses(pg, [analysis(NOON + HOUR), analysis(decision="SKIP")])
    assert refused.value.diag.constraint_name == "market_analyses_append_only"
    assert "OPEN_YES" in (refused.value.diag.message_detail or "")
    pg.rollback()
    assert len(research.analyses_between(pg, analyzed_from=NOON - DAY, analyzed_to=NOON + DAY)) == 1


def test_analyses_are_found_by_market_time_and_decision(pg: psycopg.Connection) -> None:
    words = ["OPEN_YES", "SKIP", "SKIP", "CLOSE"]
    rows = [analysis(NOON + number * HOUR, f"KX-{number % 2}", decision=word) for number, word in enumerate(words)]
    research.insert_market_analyses(pg, rows)
    span = {"analyzed_from": NOON, "analyzed_to": NOON + 3 * HOUR}
    assert [row.analyzed_at for row in research.analyses_between(pg, **span)] == [NOON, NOON + HOUR, NOON + 2 * HOUR]
    assert [row.decision for row in research.analyses_by_decision(pg, decision="SKIP", **span)] == ["SKIP", "SKIP"]
    assert [row.analyzed_at for row in research.analyses_of_market(pg, market_ticker="KX-0", **span)] == [NOON + 2 * HOUR, NOON]
    latest = research.latest_analysis(pg, market_ticker="KX-1")
    assert latest is not None
    assert (latest.decision, latest.analyzed_at) == ("CLOSE", NOON + 3 * HOUR)
    assert research.latest_analysis(pg, market_ticker="KX-9") is None


def test_what_analyses_cost_at_each_provider(pg: psycopg.Connection) -> None:
    costs = [("xai", "0.05"), ("openai", "0.2"), ("xai", "0.07"), ("xai", "0.0001")]
    rows = [analysis(NOON + n * HOUR, ai_provider=who, cost=dollars(cost)) for n, (who, cost) in enumerate(costs)]
    research.insert_market_analyses(pg, rows)
    found = research.analysis_cost_by_provider(pg, analyzed_from=NOON, analyzed_to=NOON + 3 * HOUR)
    assert [(row.ai_provider, row.analyses, row.total_cost) for row in found] == [
        ("openai", 1, dollars("0.2")), ("xai", 2, dollars("0.12")),
    ]  # fmt: skip


def test_two_sessions_that_register_the_same_version_get_the_same_number(database_url: str) -> None:
    """The second waits for the first and sees its row, although its own snapshot is older."""
    with psycopg.connect(database_url) as one, psycopg.connect(database_url) as two:
        first = strategy(one)
        found: list[int] = []
        waiting = threading.Thread(target=lambda: found.append(strategy(two).strategy_id))
        waiting.start()
        with psycopg.connect(database_url, autocommit=True) as watch:
            while (
                waiting.is_alive()
                and not watch.execute(
                    "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
                ).fetchall()
            ):
                waiting.join(0.01)
            assert waiting.is_alive(), "the second did not wait: the race did not fire"
        one.commit()
        waiting.join()
        assert found == [first.strategy_id]


def test_a_strategy_that_was_used_cannot_be_deleted(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market()])
    row = strategy(pg)
    opened(pg, strategy_id=row.strategy_id, at=NOON + SECOND)
    pg.commit()
    pg.execute("SET LOCAL kalshidb.allow_purge = on")
    with pytest.raises(errors.ForeignKeyViolation):
        pg.execute("DELETE FROM research.strategies")
