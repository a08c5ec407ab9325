"""What every ledger in a database has in common: two tables, and the steps on them.

A step is one transaction that has the account's row to itself, and it is committed before the method
returns. What a process had reserved when it died counts as spent, and is shown as uncertain: nobody
knows whether those calls were billed.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self, TypeAlias

from loom_py._log import get_logger
from loom_py.errors import BudgetError
from loom_py.resilience.spending import statements as sql
from loom_py.resilience.spending.accounts import Account, Balance, Limits, Tally, Unit
from loom_py.resilience.spending.ledger import Charge, Hold, Refusal
from loom_py.resilience.spending.owners import is_gone, this_process
from loom_py.resilience.spending.report import LedgerEntry, report_text

__all__ = ["LEDGER_LIMIT", "Run", "StoreError", "StoredLedger"]

LEDGER_LIMIT = 1_000_000
"""The largest limit in USD that a ledger in a database counts against: sums are 64-bit integers there."""

Run: TypeAlias = Callable[[str, Mapping[str, Any]], tuple[int, Sequence[Sequence[Any]]]]
"""Runs one statement with ``:named`` parameters: how many rows it changed, and those it returned."""

LOST_AFTER = 24 * 3600.0
"""Seconds after which a reservation of a process nobody can ask after is taken for lost."""

_LONGEST_NAME = 200

_log = get_logger()


class StoreError(Exception):
    """The database did not do a step; the message is fit to be shown."""


class StoredLedger(ABC):
    """A ledger in a database. Subclasses say how a transaction is made."""

    blocks: ClassVar[bool] = True
    _lock_row: ClassVar[str] = " FOR UPDATE"

    def __init__(self, label: str, clock: Callable[[], float] = time.time) -> None:
        self.label = label
        self._clock = clock
        self._turn = threading.Lock()
        self._owed: deque[tuple[Hold, Charge]] = deque()
        self._pid = os.getpid()
        self._owner = this_process()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Run]:
        """One transaction, committed at the end; raises `StoreError` where that fails."""

    @abstractmethod
    def _insert(self, run: Run, parameters: Mapping[str, Any]) -> None:
        """Add the row of a new account, unless another process has just done it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections. Further use opens them again."""

    def _forked(self) -> None:
        """Called in a forked child before its first step: what was inherited is the parent's."""
        self._turn = threading.Lock()
        self._owed.clear()
        self._owner = this_process()

    # ── the steps ────────────────────────────────────────────────────────────────────────

    def reserve(self, account: Account, usd: int, tokens: int, limits: Limits) -> Hold | Refusal:
        """Reserve both amounts, or neither where one of them does not fit.

        Raises `BudgetError` where the ledger cannot be written; then nothing is reserved.
        """
        stored = _stored(account)
        hold = Hold(stored, usd, tokens, uuid.uuid4().hex)
        written = False
        try:
            self._pay_owed()
            with self._transaction() as run:
                balance = self._load(run, stored)
                unit = balance.short_of(usd, tokens, limits)
                if unit is not None:
                    return Refusal(unit, balance.of(unit))
                hold.alert = balance.crossed(limits)
                self._save(run, stored, balance)
                run(sql.ADD_HOLD, {**_names(stored), **self._row(hold)})
                written = True
        except StoreError as exc:
            if written:  # nobody knows whether it was committed, and the call will not be made
                self._owed.append((hold, Charge(sent=False)))
            raise self._unavailable(exc) from None
        hold.sums = None if hold.alert is None else balance.of(hold.alert)
        return hold

    def end(self, hold: Hold, charge: Charge) -> None:
        """End a reservation. What cannot be written now stays reserved until it can."""
        try:
            self._pay_owed()
            self._end(hold, charge)
        except StoreError as exc:
            self._owed.append((hold, charge))
            _log.warning(
                "spending_ledger_unavailable", ledger=self.label, error=str(exc), owed=len(self._owed)
            )

    def extend(self, account: Account, unit: Unit, amount: int) -> Tally:
        """Allow so much more, for good; the unit's sums after it. Raises `BudgetError`."""
        stored = _stored(account)
        try:
            with self._transaction() as run:
                balance = self._load(run, stored)
                balance.of(unit).extend(amount)
                self._save(run, stored, balance)
        except StoreError as exc:
            raise self._unavailable(exc) from None
        return balance.of(unit)

    def recover(self) -> int:
        """Count as spent what processes that have died had reserved; how many calls those were.

        Done when a ledger is opened. A process of another machine is taken for dead after 24 hours. One
        that lives after all still settles its calls rightly. Raises `BudgetError`.
        """
        try:
            with self._transaction() as run:
                _, rows = run(sql.OPEN_HOLDS, {})
            return sum(self._give_up(row) for row in rows if self._is_lost(str(row[6]), float(row[7])))
        except StoreError as exc:
            raise self._unavailable(exc) from None

    def prune(self, *, per: str, before: float) -> int:
        """Drop the accounts of that kind not used since ``before`` (seconds since 1970); how many.

        Their spending is forgotten. For chats and days that are over; others would begin anew.
        """
        wanted = {"per": per, "before": before}
        try:
            with self._transaction() as run:
                run(sql.PRUNE_LOST, wanted)
                return run(sql.PRUNE, wanted)[0]
        except StoreError as exc:
            raise self._unavailable(exc) from None

    def forget(self, account: Account) -> None:
        """Does nothing: what was spent stays written until it is pruned."""
        return

    # ── to read ──────────────────────────────────────────────────────────────────────────

    def balance(self, account: Account) -> Balance:
        """The sums of an account; all 0 for one that is not known. Raises `BudgetError`."""
        rows = self._read(sql.LOAD, _names(_stored(account)))
        return _balance(rows[0]) if rows else Balance()

    def balances(
        self, per: str | None = None, agent: str | None = None, limit: int | None = None
    ) -> dict[Account, Balance]:
        """The accounts used last, the latest first. Raises `BudgetError`."""
        return {Account(*row[:3]): _balance(row[4:]) for row in self._listed(per, agent, limit)}

    def entries(self, per: str | None = None, agent: str | None = None) -> tuple[LedgerEntry, ...]:
        """What was spent, account by account, the one used last first. Raises `BudgetError`."""
        rows = self._listed(per, agent, None)
        return tuple(LedgerEntry.of(Account(*row[:3]), _balance(row[4:]), row[3]) for row in rows)

    def report(self) -> str:
        """The entries as a table to read, with their sum. Raises `BudgetError`."""
        return report_text(self.entries())

    def _listed(self, per: str | None, agent: str | None, limit: int | None) -> Sequence[Sequence[Any]]:
        wanted = {"per": per, "agent": None if agent is None else _storable(agent)}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        return self._read(sql.listing(list(wanted), limit), wanted)

    def _read(self, statement: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        try:
            self._pay_owed()
            with self._transaction() as run:
                return run(statement, parameters)[1]
        except StoreError as exc:
            raise self._unavailable(exc) from None

    # ── on the rows ──────────────────────────────────────────────────────────────────────

    def _load(self, run: Run, account: Account) -> Balance:
        """The account's sums; its row is this transaction's until the end."""
        names = _names(account)
        for _ in range(2):
            _, rows = run(f"{sql.LOAD}{self._lock_row}", names)
            if rows:
                return _balance(rows[0])
            self._insert(run, {**names, **_sums(Balance()), "updated": self._clock()})
        return Balance()

    def _save(self, run: Run, account: Account, balance: Balance) -> None:
        run(sql.SAVE, {**_names(account), **_sums(balance), "updated": self._clock()})

    def _row(self, hold: Hold) -> dict[str, Any]:
        amounts = {"id": hold.id, "usd": hold.usd, "tokens": hold.tokens}
        return {**amounts, "owner": self._owner, "created": self._clock(), "lost": 0}

    def _end(self, hold: Hold, charge: Charge) -> None:
        with self._transaction() as run:
            balance = self._load(run, hold.account)
            _, rows = run(sql.FIND_HOLD, {"id": hold.id})
            if not rows:
                return  # ended already
            usd, tokens, lost = rows[0]
            balance.usd.end(usd, charge.usd, charge.uncertain_usd, was_lost=bool(lost))
            balance.tokens.end(tokens, charge.tokens, charge.uncertain_tokens, was_lost=bool(lost))
            balance.calls -= not charge.sent
            self._save(run, hold.account, balance)
            run(sql.DROP_HOLD, {"id": hold.id})

    def _pay_owed(self) -> None:
        """Write the ends that could not be written when they came."""
        while self._owed and os.getpid() == self._pid:
            try:
                hold, charge = self._owed.popleft()
            except IndexError:  # another thread has
                return
            try:
                self._end(hold, charge)
            except StoreError:
                self._owed.appendleft((hold, charge))
                raise

    def _is_lost(self, owner: str, created: float) -> bool:
        if owner == self._owner:
            return False
        return is_gone(owner) or self._clock() - created > LOST_AFTER

    def _give_up(self, row: Sequence[Any]) -> bool:
        """Count a lost reservation as spent. Its row stays, so that its owner may yet settle it."""
        account = Account(*row[1:4])
        with self._transaction() as run:
            balance = self._load(run, account)
            changed, _ = run(sql.LOSE_HOLD, {"id": row[0]})
            if not changed:
                return False
            balance.usd.end(row[4], row[4], row[4])
            balance.tokens.end(row[5], row[5], row[5])
            self._save(run, account, balance)
        return True

    def _unavailable(self, exc: StoreError) -> BudgetError:
        return BudgetError(
            f"the spending ledger {self.label} cannot be used: {exc}",
            code="ledger_unavailable",
            http_status=503,
            retryable=True,
            hint="No call is made that could not be counted. Check the file or the database.",
        )

    def _check_process(self) -> None:
        """Start afresh in a forked child. Called before the turn is taken or a connection used."""
        if os.getpid() != self._pid:
            self._forked()
            self._pid = os.getpid()


def _stored(account: Account) -> Account:
    return Account(_storable(account.agent), account.per, _storable(account.key))


def _storable(name: str) -> str:
    """A name every database takes: one too long, or with odd characters, gets a digest for its end."""
    if len(name) <= _LONGEST_NAME and "\0" not in name and name.isprintable():
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    kept = "".join(letter for letter in name[:100] if letter.isprintable())
    return f"{kept}…{digest}"


def _names(account: Account) -> dict[str, Any]:
    return {"agent": account.agent, "per": account.per, "name": account.key}


def _tallies(balance: Balance) -> Iterator[int]:
    for tally in (balance.usd, balance.tokens):
        yield from (tally.spent, tally.reserved, tally.uncertain, tally.extra, int(tally.alerted))


def _sums(balance: Balance) -> dict[str, int]:
    return dict(zip(sql.SUMS, (*_tallies(balance), balance.calls), strict=True))


def _balance(row: Sequence[Any]) -> Balance:
    usd, tokens = row[:5], row[5:10]
    return Balance(_tally(usd), _tally(tokens), row[10])


def _tally(row: Sequence[Any]) -> Tally:
    spent, reserved, uncertain, extra, alerted = row
    return Tally(spent, reserved, uncertain, extra, bool(alerted))
