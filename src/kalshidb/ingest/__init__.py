"""Getting data in: from saved files, from the exchange, and again what was refused before.

Everything passes one door (`intake`): recognise, validate, map to rows, write in batches, keep what is refused. Not here: what
the wire looks like (kalshidb.exchange) and what the tables look like (migrations/).
"""
