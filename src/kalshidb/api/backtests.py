"""A backtest as a caller asks for it."""

from datetime import date
from typing import Annotated, Any, Self, TypedDict

from pydantic import BaseModel, ConfigDict, Field, model_validator


class RunColumns(TypedDict):
    """What a request says of a run, by the parameters of kalshidb.queries.backtest.begin_run."""

    strategy_name: str
    date_start_local: date
    date_end_local: date
    metadata: dict[str, Any]


class BacktestRequest(BaseModel):
    """The body of a request for a backtest (seed S1). What is not named here is refused: a misspelt filter must not mean all markets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The form of backtest.runs.strategy_name: no blanks at its ends, or two names would look like one.
    strategy: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$")]
    """Name of the strategy, 1 to 100 characters."""
    market_filter: str | None = None
    """Which markets, in the strategy's own words: politics, sports; None for all that it knows."""
    start_date: date
    """First day, in the calendar of the markets' station or venue."""
    end_date: date
    """Last day, inclusive; after start_date."""

    @model_validator(mode="after")
    def _end_after_start(self) -> Self:
        if self.end_date <= self.start_date:
            raise ValueError(f"end_date must be after start_date: {self.end_date} is not after {self.start_date}")
        return self

    def as_run(self) -> RunColumns:
        """Return what it says of a run, as keyword arguments of backtest.begin_run; the strategy adds its version, seed and policy."""
        return {
            "strategy_name": self.strategy,
            "date_start_local": self.start_date,
            "date_end_local": self.end_date,
            "metadata": {} if self.market_filter is None else {"market_filter": self.market_filter},
        }
