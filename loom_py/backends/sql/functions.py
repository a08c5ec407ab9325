"""Functions and tables that a query may never touch, whatever the rights of the connection.

They read or write the server's files, reach other servers, hold locks, run text as SQL, change
settings or end other people's work. The lists follow the manuals of SQLite 3.50 and PostgreSQL 18.
"""

from __future__ import annotations

import re

from loom_py.backends.sql.names import ascii_lower, words

__all__ = ["SQLITE_FORBIDDEN_TABLES", "is_forbidden_function", "is_forbidden_table"]

_ANYWHERE = words(
    "benchmark connectby crosstab csv_read edit eval fts3_tokenizer get_lock glob_read iceberg_scan",
    "load_extension load_file opendatasource openquery openrowset openxml",
    "master_pos_wait parquet_scan readfile read_blob read_csv read_csv_auto",
    "read_json read_json_auto read_json_objects read_ndjson read_parquet read_text release_lock",
    "set_config sleep sniff_csv sqlite_scan sys_eval sys_exec system ts_stat writefile xpath_table",
)
_PREFIXES = ("dblink", "lo_", "pragma_", "postgres_query", "postgres_scan", "mysql_query", "mysql_scan")
_POSTGRES_WRITES = frozenset({"nextval", "setval"})
_POSTGRES_XML = re.compile(r"(query|table|cursor|schema|database)_to_xml(_and_xmlschema|schema)?")
_POSTGRES_OTHER = words(
    "loread lowrite txid_current binary_upgrade_create_empty_extension crosstab2 crosstab3 crosstab4",
    "crosstabn postgres_fdw_disconnect postgres_fdw_disconnect_all",
)
_POSTGRES_HARMLESS = frozenset({"pg_typeof", "pg_size_pretty", "pg_size_bytes", "pg_column_size"})
_POSTGRES_CATALOG = words(
    "pg_backend_pid pg_collation_is_visible pg_database_size pg_encoding_to_char pg_get_constraintdef",
    "pg_get_expr pg_get_functiondef pg_get_indexdef pg_get_keywords pg_get_serial_sequence pg_get_triggerdef",
    "pg_get_userbyid pg_get_viewdef pg_indexes_size pg_is_in_recovery pg_postmaster_start_time",
    "pg_relation_size pg_table_is_visible pg_table_size pg_total_relation_size pg_type_is_visible",
)

SQLITE_FORBIDDEN_TABLES = words(
    "bytecode completion csv dbstat fsdir sqlite_dbpage sqlite_stmt tables_used zipfile"
)
_POSTGRES_FORBIDDEN_TABLES = words(
    "pg_authid pg_file_settings pg_hba_file_rules pg_ident_file_mappings pg_largeobject pg_shadow",
    "pg_user_mapping pg_user_mappings",
)


def is_forbidden_function(name: str, dialect: str, *, read_only: bool = True, scoped: bool = False) -> bool:
    """Whether a query may not call ``name``.

    Of PostgreSQL's ``pg_…`` functions only known harmless ones pass; with ``scoped`` (some tables are
    hidden) not even those that tell of a table by its name.
    """
    name = ascii_lower(name)
    if name in _ANYWHERE or name.startswith(_PREFIXES):
        return True
    if dialect == "sqlite":
        return name in SQLITE_FORBIDDEN_TABLES
    if dialect != "postgres":
        return False
    if name in _POSTGRES_WRITES:
        return read_only
    if name in _POSTGRES_OTHER or _POSTGRES_XML.fullmatch(name):
        return True
    if not name.startswith("pg_") or name in _POSTGRES_HARMLESS:
        return False
    return scoped or name not in _POSTGRES_CATALOG


def is_forbidden_table(name: str, dialect: str) -> bool:
    """Whether a query may not read ``name``: raw pages, other files, password hashes."""
    name = ascii_lower(name)
    if name.startswith("pragma_"):
        return True
    if dialect == "sqlite":
        return name in SQLITE_FORBIDDEN_TABLES
    if dialect == "duckdb" and any(mark in name for mark in "/.:"):
        return True  # DuckDB reads a file that is named like a table
    return dialect == "postgres" and name in _POSTGRES_FORBIDDEN_TABLES
