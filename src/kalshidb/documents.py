"""JSON documents that columns hold, as models written by hand; a column's comment names its model, and the generated rows use it.

Prices in a document are text, so that no reader on the way makes a float of them. Not here: rows (kalshidb.models, generated), and
what an application takes in and gives out (kalshidb.api).
"""

from decimal import Decimal
from typing import Annotated, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

Dollars = Annotated[Decimal, Field(ge=0, le=1, max_digits=7, decimal_places=6)]


class TrailingStop(BaseModel):
    """State of a trailing stop (seed S2): it follows the price of the side that is held upwards, never down.

    Reads the older spelling of the seed as well (enabled, highest_price, current_stop), writes the newer. trading.advance_trailing_stop
    moves it on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    active: Annotated[bool, Field(validation_alias=AliasChoices("active", "enabled"))] = False
    """Whether the price has reached activation_price; from then on the stop holds."""
    activation_price: Dollars | None = None
    """Price in dollars from which the stop holds; None: from the first price on."""
    peak_price: Annotated[Dollars | None, Field(validation_alias=AliasChoices("peak_price", "highest_price"))] = None
    """Highest price in dollars seen while active; None before."""
    current_stop_price: Annotated[Dollars | None, Field(validation_alias=AliasChoices("current_stop_price", "current_stop"))] = (
        None
    )
    """Price in dollars at or below which the position is left; None before it is active."""
    current_distance: Annotated[Decimal, Field(gt=0, lt=1)] | None = None
    """How far the stop stays below the peak, as a fraction of the peak: 0.02 below 0.80 is 0.784."""
    stop_distance: Annotated[Decimal, Field(gt=0, lt=1)] | None = None
    """How far the stop stays below the peak, in dollars; one of both distances is given."""

    @model_validator(mode="after")
    def _one_distance(self) -> Self:
        if (self.current_distance is None) == (self.stop_distance is None):
            raise ValueError("give current_distance (a fraction of the peak) or stop_distance (dollars), and not both")
        return self
