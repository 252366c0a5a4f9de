"""A simulated exchange: a deterministic world of markets behind a local HTTP server, in the shape of the real one.

For tests, the demonstration and offline work. Nothing was recorded: names, prices and trades are invented from a seed.
"""

from kalshidb.exchange.simulator.faults import Settings as FaultSettings
from kalshidb.exchange.simulator.server import SimulatedExchange
from kalshidb.exchange.simulator.wire import Era
from kalshidb.exchange.simulator.world import Book, Candle, Event, Market, Series, Trade, World

__all__ = ["Book", "Candle", "Era", "Event", "FaultSettings", "Market", "Series", "SimulatedExchange", "Trade", "World"]
