"""A PostgreSQL store for prediction-market research and trading: SQL is the source of truth and Python follows it."""

__version__ = "0.1.0"
