"""The boundary to the exchange: what its answers mean, told apart and read in every era of the wire format.

`scalars` reads one value of the wire, `models` one object, `recognise` a whole saved document; the HTTP client and the
simulator of the exchange live here too. Nothing in this package knows the database.
"""
