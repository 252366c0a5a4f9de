"""The temporary table that the rows of a bulk statement are copied into.

Its columns are the table's, but for domains, of which they have the type beneath. To check a domain for each value that arrives costs more
than the rest of staging a row, and of a load that is repeated most rows go no further. So it is the table itself that asks for what its
domains demand; it does not say which row was at fault, and so `typed` makes a table with the domains, to copy the rows into once more.
"""

from collections.abc import Iterable

from psycopg import sql

POSITION = "staged_position"


def columns(target: tuple[str, str], names: Iterable[str]) -> sql.Composed:
    """Return the query for the columns of a staging table, as CREATE TABLE has them.

    Args:
        target: schema and name of the table that the rows are for.
        names: those of its columns that are staged, in their order.
    """
    schema, table = target
    return sql.SQL(
        """
        SELECT string_agg(
            format('%I %s', a.attname, format_type(bottom.type, bottom.modifier)) || CASE WHEN l.oid IS NULL THEN ''
                ELSE format(' COLLATE %I.%I', ln.nspname, l.collname) END,
            ', ' ORDER BY wanted.place
        ) AS columns
        FROM unnest({names}::text[]) WITH ORDINALITY AS wanted (name, place)
        CROSS JOIN pg_catalog.pg_namespace AS n
        JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = {table}
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = wanted.name AND NOT a.attisdropped
        LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = a.attcollation
        LEFT JOIN pg_catalog.pg_namespace AS ln ON ln.oid = l.collnamespace
        CROSS JOIN LATERAL (
            WITH RECURSIVE down (type, modifier) AS (
                SELECT a.atttypid, a.atttypmod
                UNION ALL
                SELECT t.typbasetype, t.typtypmod FROM down JOIN pg_catalog.pg_type AS t ON t.oid = down.type WHERE t.typtype = 'd'
            )
            SELECT down.type, down.modifier FROM down JOIN pg_catalog.pg_type AS t ON t.oid = down.type WHERE t.typtype <> 'd'
        ) AS bottom
        WHERE n.nspname = {schema}
        """
    ).format(names=list(names), table=table, schema=schema)


def create(staging: str, defined: str) -> bytes:
    """Return what makes a staging table of such columns, which the server numbers: of two rows with one key the last wins."""
    return (
        f"CREATE TEMPORARY TABLE {sql.Identifier(staging).as_string(None)} "
        f"({defined}, {POSITION} bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000)) ON COMMIT DELETE ROWS"
    ).encode()


def typed(staging: str, target: tuple[str, str], names: Iterable[str]) -> list[sql.Composed]:
    """Return what puts a table with the domains in the place of a staging table, whose rows stay in `before(staging)`."""
    return [
        sql.SQL("ALTER TABLE {} RENAME TO {}").format(sql.Identifier(staging), before(staging)),
        sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT {} FROM {} WITH NO DATA").format(
            sql.Identifier(staging), sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(*target)
        ),
    ]


def before(staging: str) -> sql.Identifier:
    """Return what a staging table is called after `typed`."""
    return sql.Identifier(f"{staging[:50]} before")
