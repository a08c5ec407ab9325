"""Ledgers: in memory, in an SQLite file and in PostgreSQL they count alike; the stored ones remember."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from loom_py.clock import VirtualClock
from loom_py.errors import BudgetError, BudgetExceededError, ConfigError, MissingDependencyError
from loom_py.resilience.budget import Budget, BudgetConfig, Scope
from loom_py.resilience.spending import (
    Account,
    Charge,
    Hold,
    Limits,
    MemoryLedger,
    Refusal,
    SpendingLedger,
    SQLiteLedger,
    SQLLedger,
    StoredLedger,
    open_ledger,
)
from loom_py.resilience.spending.owners import is_gone, this_process

ME = Account("flights", "session", "ada")
SCOPE = Scope("flights", session="ada")
LIMITS = Limits(1_000, 800, (4, 5))
Open = Callable[[], StoredLedger]


@pytest.fixture
def database(postgresql_server: str) -> Iterator[str]:
    """A database of the test's own."""
    name = f"spending_{uuid.uuid4().hex}"
    admin = sa.create_engine(
        postgresql_server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield postgresql_server.rpartition("/")[0] + f"/{name}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What a user gives as ``ledger``."""
    if request.param == "sqlite":
        return str(tmp_path / "spending.db")
    url: str = request.getfixturevalue("database")
    return url


@pytest.fixture
def opened(where: str) -> Iterator[Open]:
    """Opens the same ledger, again and again."""
    ledgers: list[StoredLedger] = []

    def open_it() -> StoredLedger:
        ledgers.append(open_ledger(where, clock=VirtualClock(epoch=1_000).time))
        return ledgers[-1]

    yield open_it
    for ledger in ledgers:
        ledger.close()


def held(ledger: SpendingLedger, usd: int, tokens: int, account: Account = ME) -> Hold:
    outcome = ledger.reserve(account, usd, tokens, LIMITS)
    assert isinstance(outcome, Hold)
    return outcome


def sums(ledger: SpendingLedger, account: Account = ME) -> tuple[int, int, int, int, int, int, int]:
    one = ledger.balance(account)
    usd, tokens = one.usd, one.tokens
    return usd.spent, usd.reserved, usd.uncertain, tokens.spent, tokens.reserved, tokens.uncertain, one.calls


# ── all of them alike ────────────────────────────────────────────────────────────────────


def life_of_a_ledger(ledger: SpendingLedger) -> None:
    assert isinstance(ledger, SpendingLedger)
    first = held(ledger, 600, 100)
    assert first.alert is None
    refused = ledger.reserve(ME, 401, 1, LIMITS)
    assert isinstance(refused, Refusal)
    assert (refused.unit, refused.sums.reserved) == ("usd", 600)
    refused = ledger.reserve(ME, 0, 701, LIMITS)
    assert isinstance(refused, Refusal)
    assert refused.unit == "tokens"
    second = held(ledger, 400, 10)
    assert second.alert == "usd"
    assert second.sums is not None
    assert second.sums.reserved == 1_000
    assert sums(ledger) == (0, 1_000, 0, 0, 110, 0, 2)
    ledger.end(first, Charge(50, 60))
    ledger.end(second, Charge(400, 10, 400, 10))
    assert sums(ledger) == (450, 0, 400, 70, 0, 10, 2)
    assert held(ledger, 500, 1).alert is None  # told once
    assert ledger.extend(ME, "usd", 1_000).extra == 1_000
    assert held(ledger, 1_049, 1).alert == "usd"
    third = held(ledger, 1, 700)
    assert third.alert == "tokens"
    ledger.end(third, Charge(sent=False))
    assert sums(ledger) == (450, 1_549, 400, 70, 2, 10, 4)
    other = Account("flights", "chat", "ada")
    held(ledger, 1, 1, other)
    assert set(ledger.balances()) == {ME, other}
    assert list(ledger.balances(per="chat")) == [other]
    assert ledger.balances(agent="trains") == {}
    assert len(ledger.balances(limit=1)) == 1


def test_the_ledger_in_memory_counts_as_the_others_do() -> None:
    life_of_a_ledger(MemoryLedger())


def test_a_stored_ledger_counts_as_the_one_in_memory_does(opened: Open) -> None:
    life_of_a_ledger(opened())


def test_a_session_that_is_forgotten_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    ledger = MemoryLedger(keep={"session": 2})
    for number in range(5):
        ledger.end(held(ledger, 10, 1, Account("a", "session", f"{number}")), Charge(10, 1))
    assert [account.key for account in ledger.balances()] == ["4", "3"]
    events = [record.__dict__["loom_event"] for record in caplog.records if record.name == "loom_py"]
    assert [(event["event"], event["per"], event["kept"]) for event in events] == [
        ("budget_account_forgotten", "session", 2)
    ]


# ── what is written stays ────────────────────────────────────────────────────────────────


def test_what_was_spent_survives_a_restart(where: str) -> None:
    config = BudgetConfig(usd="0.50", per="session", ledger=where)
    one = Budget(config, clock=VirtualClock())
    assert one.blocks
    one.reserve(SCOPE, Decimal("0.30"), 5).settle(Decimal("0.20"), 3)
    one.extend(SCOPE, "usd", Decimal("0.10"))
    one.close()
    two = Budget(config, clock=VirtualClock())
    with pytest.raises(BudgetExceededError) as caught:
        two.reserve(SCOPE, Decimal("0.400000000001"), 1)
    assert (caught.value.spent, caught.value.limit) == (Decimal("0.2"), Decimal("0.6"))
    two.reserve(SCOPE, Decimal("0.40"), 1).release()
    two.close()


def test_ending_twice_and_by_another_ledger_counts_once(opened: Open) -> None:
    one, two = opened(), opened()
    hold = held(one, 500, 5)
    two.end(hold, Charge(100, 1))
    one.end(hold, Charge(100, 1))
    assert sums(one) == sums(two) == (100, 0, 0, 1, 0, 0, 1)


def test_the_entries_say_what_was_spent_by_whom(opened: Open) -> None:
    ledger = opened()
    ledger.end(held(ledger, 1_000, 70), Charge(250, 7))
    held(ledger, 100, 20, Account("flights", "agent", ""))
    entries = {entry.per: entry for entry in ledger.entries()}
    assert entries["session"].usd == Decimal("0.00000000025")
    assert (entries["session"].tokens, entries["session"].calls, entries["session"].updated) == (7, 1, 1_000)
    assert entries["agent"].reserved_usd == Decimal("0.0000000001")
    assert entries["agent"].to_dict()["usd"] == "0"
    assert [entry.key for entry in ledger.entries(per="session", agent="flights")] == ["ada"]
    report = ledger.report()
    assert "1970-01-01 00:16:40" in report
    assert report.splitlines()[-1].split() == ["total", "2", "0.00000000025", "0.0000000001", "0", "7"]


def test_names_of_any_length_and_letters_are_kept_apart(opened: Open) -> None:
    ledger = opened()
    names = [
        "x" * 300,
        "x" * 301,
        "a\0b",
        "a\0c",
        "\ud800",
        "é 🛫",
        "a'; DROP TABLE loom_spending; --",
        "",
        "%s :x",
    ]
    for number, name in enumerate(names):
        held(ledger, number + 1, 1, Account("a", "chat", name))
    assert [ledger.balance(Account("a", "chat", name)).usd.reserved for name in names] == list(range(1, 10))


def test_pruning_drops_old_accounts_that_are_not_in_use(opened: Open) -> None:
    ledger = opened()
    ledger.end(held(ledger, 1, 1, Account("a", "chat", "over")), Charge(1, 1))
    held(ledger, 1, 1, Account("a", "chat", "runs"))
    ledger.end(held(ledger, 1, 1), Charge(1, 1))
    assert ledger.prune(per="chat", before=1_000) == 0
    assert ledger.prune(per="chat", before=1_001) == 1
    assert {account.key for account in ledger.balances()} == {"runs", "ada"}


def test_forgetting_a_session_keeps_what_is_written(where: str) -> None:
    one = Budget(BudgetConfig(usd="1", per="session", ledger=where), clock=VirtualClock())
    one.reserve(SCOPE, Decimal("0.9"), 1).settle(Decimal("0.9"), 1)
    one.forget(SCOPE)
    assert one.status(SCOPE).usd.spent == Decimal("0.9")
    one.close()


# ── many at once ─────────────────────────────────────────────────────────────────────────


def test_threads_never_overspend_a_stored_ledger(where: str) -> None:
    budget = Budget(BudgetConfig(tokens=100, per="agent", ledger=where), clock=VirtualClock())

    def run(_: int) -> int:
        spent = 0
        for _ in range(4):
            try:
                reservation = budget.reserve(SCOPE, None, 7)
            except BudgetExceededError:
                continue
            reservation.settle(None, 5)
            spent += 5
        return spent

    with ThreadPoolExecutor(8) as pool:
        spent = sum(pool.map(run, range(8)))
    status = budget.status(SCOPE).tokens
    assert (status.spent, status.reserved) == (Decimal(spent), Decimal(0))
    assert 93 < spent <= 100
    budget.close()


SPENDER = """
import sys, random
from decimal import Decimal
from loom_py.clock import RealClock
from loom_py.errors import BudgetExceededError
from loom_py.resilience.budget import Budget, BudgetConfig, Scope

unit = Decimal("1E-12")
budget = Budget(BudgetConfig(usd=1000 * unit, per="agent", ledger=sys.argv[1]), clock=RealClock())
chance = random.Random(int(sys.argv[2]))
spent = refused = 0
print("ready", flush=True)
sys.stdin.readline()
while refused < 3:
    worst = chance.randint(5, 40)
    try:
        reservation = budget.reserve(Scope("a"), worst * unit, 1)
    except BudgetExceededError as error:
        assert error.spent + error.reserved + error.needed > error.limit
        refused += 1
        continue
    if chance.random() < 0.1:
        reservation.release()
        continue
    real = chance.randint(0, worst)
    reservation.settle(real * unit, 1)
    spent += real
print(spent)
"""


def test_many_processes_on_one_ledger_never_overspend_by_one_unit(where: str) -> None:
    count = 4 if "://" in where else 8  # the database's driver takes seconds to import
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, where, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(count)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    spent = sum(int(process.communicate(timeout=100)[0]) for process in processes)
    assert [process.returncode for process in processes] == [0] * count
    with open_ledger(where, clock=VirtualClock().time) as ledger:
        usd = ledger.balance(Account("a", "agent", "")).usd
    assert (usd.spent, usd.reserved, usd.uncertain) == (spent, 0, 0)
    assert 960 < usd.spent <= 1_000


HOLDER = """
import sys, time
from decimal import Decimal
from loom_py.clock import RealClock
from loom_py.resilience.budget import Budget, BudgetConfig, Scope

budget = Budget(BudgetConfig(usd="1.00", per="agent", ledger=sys.argv[1]), clock=RealClock())
budget.reserve(Scope("a"), Decimal("0.2"), 9).settle(Decimal("0.1"), 5)
held = budget.reserve(Scope("a"), Decimal("0.6"), 9)
print("held", flush=True)
time.sleep(100)
"""


def test_what_a_killed_process_had_reserved_counts_as_spent_but_uncertain(where: str) -> None:
    config = BudgetConfig(usd="1.00", per="agent", ledger=where)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, where], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        while_it_lives = Budget(config, clock=VirtualClock())
        assert while_it_lives.status(Scope("a")).usd.reserved == Decimal("0.6")
        process.send_signal(signal.SIGKILL)
    while_it_lives.close()
    after = Budget(config, clock=VirtualClock())
    usd = after.status(Scope("a")).usd
    assert (usd.spent, usd.uncertain, usd.reserved) == (Decimal("0.7"), Decimal("0.6"), Decimal(0))
    with pytest.raises(BudgetExceededError):
        after.reserve(Scope("a"), Decimal("0.300000000001"), 1)
    after.reserve(Scope("a"), Decimal("0.3"), 1).release()
    after.close()


def test_one_that_was_taken_for_dead_still_settles_rightly(where: str, opened: Open) -> None:
    clock = VirtualClock(epoch=1_000)
    with open_ledger(where, clock=clock.time) as ledger:
        ledger._owner = "elsewhere/1/1"
        hold = held(ledger, 700, 70)
        clock.advance(25 * 3600)
        with open_ledger(where, clock=clock.time) as other:
            assert sums(other) == (700, 0, 700, 70, 0, 70, 1)
            assert other.recover() == 0
        ledger.end(hold, Charge(100, 10))
        assert sums(ledger) == (100, 0, 0, 10, 0, 0, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_counts_on_the_same_ledger_in_its_own_name(where: str) -> None:
    config = BudgetConfig(tokens=1_000, per="agent", ledger=where)
    budget = Budget(config, clock=VirtualClock())
    budget.reserve(SCOPE, None, 10).settle(None, 10)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for _ in range(30):
                budget.reserve(SCOPE, None, 10).settle(None, 2)
            budget.reserve(SCOPE, None, 30)  # and dies with it
            status = 0
        finally:
            os._exit(status)
    for _ in range(30):
        budget.reserve(SCOPE, None, 10).settle(None, 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    budget.reserve(SCOPE, None, 40)
    budget.close()
    after = Budget(config, clock=VirtualClock())
    tokens = after.status(SCOPE).tokens
    assert (tokens.spent, tokens.uncertain, tokens.reserved) == (Decimal(190), Decimal(30), Decimal(40))
    after.close()


def test_this_process_is_not_gone_but_one_with_its_old_id_is() -> None:
    name = this_process()
    assert not is_gone(name)
    host, pid, began = name.rsplit("/", 2)
    assert not is_gone(f"elsewhere/{pid}/{began}")
    assert not is_gone(f"{host}/nonsense/1")
    if began != "0":
        assert is_gone(f"{host}/{pid}/1")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert is_gone(f"{host}/{process.pid}/1")


# ── what goes wrong ──────────────────────────────────────────────────────────────────────


def refused_file(path: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        SQLiteLedger(path)
    assert caught.value.field == "ledger"
    assert caught.value.hint
    return caught.value


def test_a_file_that_cannot_be_a_ledger_is_refused_with_the_remedy(tmp_path: Path) -> None:
    text = tmp_path / "letters.txt"
    text.write_text("Dear ledger, " * 100)
    assert "not a database" in str(refused_file(text))
    assert "directory" in str(refused_file(tmp_path))
    assert "Make the folder" in str(refused_file(tmp_path / "no" / "such.db"))
    assert "in memory" in str(refused_file(":memory:"))
    assert "in memory" in str(refused_file(""))
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE loom_spending (agent TEXT, note TEXT)")
    connection.close()
    assert "another file" in str(refused_file(foreign))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    with SQLiteLedger(path) as ledger:
        for number in range(200):
            held(ledger, 1, 1, Account("a", "chat", f"{number}"))
    content = bytearray(path.read_bytes())
    content[8_192:16_384] = b"\xff" * 8_192
    path.write_bytes(content)
    assert "damaged" in str(refused_file(path))


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    SQLiteLedger(path).close()
    path.chmod(0o400)
    if os.access(path, os.W_OK):
        assert "writable" in str(refused_file("/proc/loom.db"))
    else:
        assert "writable" in str(refused_file(path))


def test_a_call_is_not_made_when_it_cannot_be_written_and_an_end_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "l.db"
    with SQLiteLedger(path) as ledger:
        hold = held(ledger, 500, 5)
        other = sqlite3.connect(path)
        other.execute("ALTER TABLE loom_spending RENAME TO away")
        ledger.end(hold, Charge(100, 1))
        assert caplog.records[-1].__dict__["loom_event"]["event"] == "spending_ledger_unavailable"
        with pytest.raises(BudgetError, match="no such table") as caught:
            ledger.reserve(ME, 1, 1, LIMITS)
        assert (caught.value.code, caught.value.retryable) == ("ledger_unavailable", True)
        other.execute("ALTER TABLE away RENAME TO loom_spending")
        assert sums(ledger) == (100, 0, 0, 1, 0, 0, 1)
        other.close()


def test_urls_of_sqlite_need_no_further_package(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path}/my%20l.db", clock=VirtualClock().time)
    assert isinstance(ledger, SQLiteLedger)
    assert ledger.path == tmp_path / "my l.db"
    ledger.close()
    with pytest.raises(ConfigError, match="three slashes"):
        open_ledger("sqlite://host/x.db", clock=VirtualClock().time)


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("postgresql+psycopg://me:hunter2@127.0.0.1:1/x", ConfigError, "Check the address"),
        ("postgresql+psycopg://127.0.0.1:1/x?password=hunter2", ConfigError, "Check the address"),
        ("postgresql+asyncpg://me:hunter2@127.0.0.1/x", ConfigError, ""),
        ("nonsense://me:hunter2@127.0.0.1/x", ConfigError, "Use a URL"),
        ("postgresql://me:hunter2@127.0.0.1:port/x", ConfigError, "cannot be read"),
        ("oracle+cx_oracle://me:hunter2@127.0.0.1/x", MissingDependencyError, "not installed"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_without_its_password(
    url: str, error: type[ConfigError], text: str
) -> None:
    with pytest.raises(error) as caught:
        SQLLedger(url)
    assert caught.value.field == "ledger"
    assert text in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_engine_of_ones_own_is_used_and_not_disposed_of(database: str) -> None:
    engine = sa.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    with SQLLedger(engine) as ledger:
        held(ledger, 5, 5)
        assert database.rpartition("/")[2] in repr(ledger)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM loom_reservations").scalar() == 1
    engine.dispose()
    with pytest.raises(ConfigError, match="SQLiteLedger"):
        SQLLedger(sa.create_engine("sqlite://"))


def test_the_ledger_goes_on_after_the_database_dropped_its_connections(database: str) -> None:
    with SQLLedger(database) as ledger:
        hold = held(ledger, 500, 5)
        admin = sa.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
        with admin.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        admin.dispose()
        ledger.end(hold, Charge(100, 1))
        assert sums(ledger) == (100, 0, 0, 1, 0, 0, 1)
