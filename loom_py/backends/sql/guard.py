"""The first wall: a query is parsed, and refused unless it is one harmless statement.

It says clearly what was wrong, so that a model can mend its query. The connection is the second
wall: what slips through here still cannot write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NoReturn, TypeAlias

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.tokens import Token, TokenType  # type: ignore[attr-defined]

from loom_py.backends.sql.functions import is_forbidden_function, is_forbidden_table
from loom_py.backends.sql.names import TableFilter, same_name
from loom_py.errors import QueryRefusedError

__all__ = ["Guard", "Node", "Statement"]

Node: TypeAlias = exp.Expression  # pyright: ignore[reportPrivateImportUsage] - public by its documentation

Kind: TypeAlias = Literal["rows", "explain", "show", "write"]

_BLANK = re.compile(r"(?:[\s\ufeff]+|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/)+")
_WORD = re.compile(r"[^\W\d]\w*")
_SHOW = re.compile(r"show\s+[\w.]+(?:\s+\w+){0,3}[\s;]*", re.IGNORECASE)
_DESCRIBE = re.compile(r"desc(?:ribe)?\s+[\w.`\"]+[\s;]*", re.IGNORECASE)
_EXPLAIN_OPTIONS = {
    "sqlite": re.compile(r"\s*query\s+plan\b", re.IGNORECASE),
    "postgres": re.compile(r"\s*(?:\([\w\s,]*\)|(?:analy[sz]e\b\s*)?(?:verbose\b)?)", re.IGNORECASE),
    "mysql": re.compile(r"\s*(?:analyze\b|extended\b)?\s*(?:format\s*=\s*\w+)?", re.IGNORECASE),
}
_NO_OPTIONS = re.compile(r"\s*(?:analyze\b)?", re.IGNORECASE)
_READS = frozenset({"SELECT", "WITH", "VALUES", "("})
_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "CREATE", "ALTER", "DROP", "TRUNCATE"})
_SHOWS = frozenset({"postgres", "mysql", "duckdb", "snowflake"})
_DESCRIBES = frozenset({"mysql", "duckdb", "oracle", "snowflake"})
_PAGED_BY_LIMIT = frozenset({"sqlite", "postgres", "mysql", "duckdb"})

READ_HINT = (
    "Only one read-only statement is allowed: SELECT, WITH … SELECT, VALUES, UNION, INTERSECT, EXCEPT "
    "or EXPLAIN of one of these."
)
_SYNTAX_HINT = "Check the syntax; a query that cannot be parsed is never run."
WRITE_HINT = (
    "One statement at a time: SELECT, INSERT, UPDATE, DELETE, MERGE, CREATE, ALTER, DROP or TRUNCATE."
)


def _classes(*names: str) -> tuple[type[Node], ...]:
    """The parser's classes of these names, where its version has them."""
    return tuple(getattr(exp, name) for name in names if hasattr(exp, name))


_CHANGES = _classes(
    "DML", "DDL", "Drop", "Alter", "TruncateTable", "Into", "Lock", "Refresh", "Comment", "Merge"
)
_NEVER = _classes(
    "Command", "Copy", "Attach", "Detach", "Pragma", "Set", "Use", "Kill", "Transaction", "Commit",
    "Grant", "Revoke", "Analyze", "Cache", "Uncache", "LoadData", "Declare", "Execute", "Export", "Put",
    "Describe", "Show", "Block", "Get", "Rollback",
)  # fmt: skip
_KEYWORDS = {
    "TruncateTable": "TRUNCATE",
    "Lock": "FOR UPDATE",
    "LoadData": "LOAD DATA",
    "Transaction": "BEGIN",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that passed.

    ``sql`` is its own text without comments before or a semicolon behind. ``ordered`` tells whether it
    has an ORDER BY, and ``limitable`` whether LIMIT and OFFSET may be put behind it. ``tree`` is the
    parsed query, with the positions of the whole text; ``None`` where the text is only let through.
    """

    sql: str
    kind: Kind = "rows"
    ordered: bool = False
    limitable: bool = False
    tables: tuple[str, ...] = ()
    tree: Node | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of one backend: the parser's ``dialect``, whether writes pass, and the tables seen."""

    dialect: str
    read_only: bool = True
    tables: TableFilter = field(default_factory=TableFilter)

    @property
    def hint(self) -> str:
        return READ_HINT if self.read_only else WRITE_HINT

    def check(self, query: str) -> Statement:
        """The statement ``query`` holds. Raises `QueryRefusedError`."""
        if "\0" in query:
            self._refuse("the query holds a NUL character")
        if self.dialect == "mysql" and re.search(r"/\*M?!", query):
            self._refuse("the query holds a comment that the server would run (/*! … */)")
        return self._check(query, 0)

    def _check(self, query: str, start: int) -> Statement:
        """The statement that starts at ``start``, after white space and comments."""
        start += _skip_blank(query[start:])
        text = query[start:]
        word = _WORD.match(text)
        first = word.group().upper() if word else text[:1]
        if not first:
            self._refuse("the query is empty")
        if first == "EXPLAIN":
            return self._explain(query, start, start + len(first))
        if first == "SHOW" and self.dialect in _SHOWS:
            return self._whole("show", _SHOW, text, first)
        if first in ("DESCRIBE", "DESC") and self.dialect in _DESCRIBES:
            return self._whole("show", _DESCRIBE, text, first)
        if first not in _READS and (self.read_only or first not in _WRITES):
            self._refuse(f"{first} is not allowed" if word else f"the query starts with {first!r}")
        # Blanks instead of what was read already, so that positions are those of the whole query.
        return self._parsed(re.sub(r"[^\n]", " ", query[:start]) + text)

    def _explain(self, query: str, start: int, end: int) -> Statement:
        options = _EXPLAIN_OPTIONS.get(self.dialect, _NO_OPTIONS)
        end += _skip_blank(query[end:])
        found = options.match(query, end)
        if found is not None:
            end = found.end()
        inner = self._check(query, end)
        if inner.kind not in ("rows", "write"):
            self._refuse(f"EXPLAIN of {inner.kind.upper()} is not allowed")
        sql = f"{query[start:end]} {inner.sql}"
        kind: Kind = "write" if inner.kind == "write" else "explain"
        return Statement(sql, kind, ordered=True, tables=inner.tables)

    def _whole(self, kind: Kind, form: re.Pattern[str], text: str, word: str) -> Statement:
        if self.tables.active:
            self._refuse(f"{word} is not allowed where some tables are hidden")
        if not form.fullmatch(text):
            self._refuse(f"this form of {word} is not allowed")
        return Statement(text.rstrip(" \t\r\n;"), kind, ordered=True)

    def _parsed(self, text: str) -> Statement:
        tokens = self._tokens(text)
        text, tokens = self._single(text, tokens)
        self._check_tokens(tokens)
        tree = self._tree(text, tokens)
        kind: Kind = "rows"
        if not isinstance(tree, (exp.Query, exp.Values)):
            if self.read_only or not isinstance(tree, _CHANGES):
                self._refuse(f"{_keyword(tree)} is not allowed")
            kind = "write"
        if self._walk(tree, tokens):
            kind = "write"
        tables = self._check_tables(tree, tokens)
        plain = isinstance(tree, (exp.Select, exp.SetOperation)) and kind == "rows"
        paged = any(tree.args.get(key) is not None for key in ("limit", "offset"))
        return Statement(
            text.strip(),
            kind,
            ordered=tree.args.get("order") is not None,
            limitable=plain and not paged and self.dialect in _PAGED_BY_LIMIT,
            tables=tables,
            tree=tree,
        )

    # ── text to tree ──

    def _tokens(self, text: str) -> list[Token]:
        try:
            return list(sqlglot.tokenize(text, dialect=self.dialect or None))
        except (SqlglotError, RecursionError) as exc:
            self._refuse(f"the query cannot be read: {_first_line(exc)}", cause=exc)

    def _single(self, text: str, tokens: list[Token]) -> tuple[str, list[Token]]:
        """The text and tokens before the closing semicolon, if nothing follows it."""
        for index, token in enumerate(tokens):
            if token.token_type == TokenType.SEMICOLON:
                for after in tokens[index + 1 :]:
                    if after.token_type != TokenType.SEMICOLON:
                        self._refuse(
                            f"more than one statement: {after.text.upper()} after a semicolon", after
                        )
                return text[: token.start].rstrip(), tokens[:index]
        return text, tokens

    def _tree(self, text: str, tokens: list[Token]) -> Node:
        try:
            dialect = sqlglot.Dialect.get_or_raise(self.dialect or None)
            trees = [tree for tree in dialect.parser().parse(tokens, text) if tree is not None]
        except ParseError as exc:
            fault = exc.errors[0] if exc.errors else {}
            what = str(fault.get("description") or _first_line(exc)).rstrip(". ")
            if "<" in what:  # the parser's own objects, of no use to the reader
                what = "a part is missing or out of place"
            where = f" near {fault['highlight']!r}" if fault.get("highlight") else ""
            place = f" at line {fault['line']}, column {fault['col']}" if fault.get("line") else ""
            self._refuse(f"the query cannot be parsed: {what}{where}{place}", hint=_SYNTAX_HINT, cause=exc)
        except RecursionError as exc:
            self._refuse("the query is nested too deeply to be checked", cause=exc)
        except SqlglotError as exc:
            self._refuse(f"the query cannot be parsed: {_first_line(exc)}", cause=exc)
        if len(trees) != 1:
            self._refuse("more than one statement" if trees else "the query is empty")
        root: Any = trees[0]
        assert isinstance(root, Node)
        return root

    # ── the rules ──

    def _check_tokens(self, tokens: list[Token]) -> None:
        """Calls are found by the text alone, so that no turn of the parser hides one."""
        scoped = self.tables.active
        for token in tokens:
            if any("/*" in comment for comment in token.comments):
                # Some databases end a nested comment where others go on.
                self._refuse("a comment within a comment is not allowed", token)
        for token, after in pairwise(tokens):
            if after.token_type == TokenType.L_PAREN and is_forbidden_function(
                token.text, self.dialect, read_only=self.read_only, scoped=scoped
            ):
                self._refuse(f"the function {token.text} is not allowed", token)
            if (
                self.dialect == "postgres"
                and after.token_type == TokenType.AMP
                and token.text in ("U", "u")
                and token.end + 1 == after.start
            ):
                self._refuse("names in Unicode escapes (U&) are not allowed", token)

    def _walk(self, tree: Node, tokens: list[Token]) -> bool:
        """Whether the tree holds a change. Raises for what is not allowed."""
        changes = False
        for node in tree.walk():
            if isinstance(node, _NEVER):
                self._refuse(f"{_keyword(node)} is not allowed", _find(tokens, _keyword(node)))
            if isinstance(node, _CHANGES):
                if self.read_only:
                    word = _keyword(node)
                    self._refuse(f"{word} is not allowed: this source is read-only", _find(tokens, word))
                changes = True
        return changes

    def _check_tables(self, tree: Node, tokens: list[Token]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for table in tree.find_all(exp.Table):
            name = table.name
            if not isinstance(table.this, exp.Identifier) or self._is_cte(table):
                continue
            if is_forbidden_table(name, self.dialect):
                self._refuse(f"the table {name} is not allowed", _find(tokens, name))
            if table.catalog and self.tables.active:
                self._refuse(f"{table.catalog}.{table.db}.{name} names a database", _find(tokens, name))
            if not self.tables.allows(name, table.db):
                visible = self.tables.visible()
                hint = f"Tables of this source: {visible}." if visible else "List the tables first."
                self._refuse(f"there is no access to the table {name}", _find(tokens, name), hint=hint)
            found[f"{table.db}.{name}" if table.db else name] = None
        return tuple(found)

    def _is_cte(self, table: exp.Table) -> bool:
        """Whether the name is that of a common table expression that is in scope here."""
        if table.db:
            return False
        wanted = self._name(table.this)
        child: Node = table
        node: Any = table.parent
        while node is not None:
            if isinstance(node, exp.With):
                # Within the list: the ones before; itself and the later ones only if recursive.
                if wanted in self._names_before(node, None if node.args.get("recursive") else child):
                    return True
            else:
                clause = node.args.get("with_") or node.args.get("with")
                if clause is not None and clause is not child and wanted in self._names_before(clause, None):
                    return True
            child, node = node, node.parent
        return False

    def _names_before(self, clause: exp.With, stop: Node | None) -> set[str]:
        names = set()
        for item in clause.expressions:
            if item is stop:
                break
            alias = item.args.get("alias")
            if alias is not None and isinstance(alias.this, exp.Identifier):
                names.add(self._name(alias.this))
        return names

    def _name(self, identifier: exp.Identifier) -> str:
        return same_name(identifier.name, bool(identifier.args.get("quoted")), self.dialect)

    def _refuse(
        self,
        what: str,
        token: Token | None = None,
        *,
        hint: str | None = None,
        cause: Exception | None = None,
    ) -> NoReturn:
        place = f" (line {token.line}, column {token.col})" if token is not None else ""
        raise QueryRefusedError(f"{what}{place}", hint=hint or self.hint) from cause


def _skip_blank(text: str) -> int:
    """Characters of white space, byte-order marks and comments at the start."""
    found = _BLANK.match(text)
    return found.end() if found else 0


def _keyword(node: exp.Expr) -> str:
    """The SQL word for a node: ``DELETE`` for a delete, and a command's own first word."""
    if isinstance(node, exp.Command):
        return str(node.this).upper()
    kind = type(node).__name__
    return _KEYWORDS.get(kind, kind.upper())


def _find(tokens: list[Token], word: str) -> Token | None:
    """The first token that reads as ``word`` (its first word, of several)."""
    wanted = word.split()[0].lower() if word else ""
    return next((token for token in tokens if token.text.lower() == wanted), None)


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().partition("\n")[0]
