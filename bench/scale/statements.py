"""The work of the database, from its own statistics."""

import re

# Statements of this bench.
OWN = "query NOT LIKE '%pg_stat_%' AND query NOT LIKE '%pg_current_wal%' AND query !~* '^(SHOW|CREATE EXTENSION|CHECKPOINT|VACUUM)'"


def reset(database):
    database.run("SELECT pg_stat_statements_reset()")


def calls(database):
    """Number of statements since the reset, without BEGIN and COMMIT."""
    return round(database.number(f"SELECT COALESCE(sum(calls), 0) FROM pg_stat_statements WHERE {OWN} AND {NOT_CONTROL}"))


NOT_CONTROL = "query !~* '^(BEGIN|COMMIT|ROLLBACK|SET |LISTEN|NOTIFY|DEALLOCATE)'"


def slowest(database, count=5):
    """The statements with the longest mean time since the reset."""
    rows = database.run(
        "SELECT calls, round(mean_exec_time::numeric, 3), round(max_exec_time::numeric, 3), "
        "left(regexp_replace(query, '\\s+', ' ', 'g'), 120) "
        f"FROM pg_stat_statements WHERE {OWN} AND {NOT_CONTROL} ORDER BY mean_exec_time DESC LIMIT {count}"
    )
    return [
        {"calls": int(calls), "mean_ms": float(mean), "max_ms": float(longest), "statement": query.strip()}
        for calls, mean, longest, query in rows
    ]


def wal_bytes(database):
    return database.number("SELECT pg_current_wal_insert_lsn() - '0/0'")


def bytes_per_row(database, table):
    """Bytes of a table with its indexes, and of its partitions, per row."""
    size = database.number(
        f"SELECT pg_total_relation_size('{table}') + COALESCE(sum(pg_total_relation_size(inhrelid)), 0) FROM pg_inherits "
        f"WHERE inhparent = '{table}'::regclass"
    )
    rows = database.number(f"SELECT count(*) FROM {table}")
    return size / rows if rows else None


def tps(text):
    """Returns the rate in the report of pgbench."""
    return float(re.search(r"^tps = ([0-9.]+) \(without", text, re.MULTILINE)[1])
