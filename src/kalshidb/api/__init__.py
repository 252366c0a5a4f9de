"""Models at the edge of an application: what is taken in from a caller and given out to one, written by hand.

A web service, a bot or a notebook validates with these what it is told and shapes what it answers; prices are dollars from 0 to 1,
times have a zone. Not here: the exchange's wire in full, every era of it (kalshidb.exchange), and the rows of the database
(kalshidb.models, generated). A model here may be made from such a row and may say which columns it becomes; it never reads or writes.
"""
