"""Narrow tools over the flights database, and questions a small local model answers with them.

Each tool does one thing, takes arguments from short lists of words and answers in a sentence: so a
model of 121 million parameters can choose among them, and an answer can be made of the results.

    backend = SQLBackend("sqlite:///flights.db")
    builder.with_backend(backend).with_tools(*flight_tools(backend))

The database holds ten days of February 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

__all__ = ["QUESTIONS", "flight_tools"]

QUESTIONS: tuple[str, ...] = (
    "Which airline had the worst departure delays from JFK?",
    "How many flights were cancelled at JFK on 8 February?",
    "What is the average delay of JetBlue and of Delta?",
)
"""Questions the tools answer. The last one needs two tool calls."""

Airport = Literal["JFK", "LaGuardia", "Newark"]
Limit = Annotated[int, Field(ge=1, le=20)]
Day = Literal[4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
Airline = Literal[
    "AirTran", "Alaska", "American", "Delta", "Endeavor", "Envoy", "ExpressJet", "Frontier", "Hawaiian",
    "JetBlue", "Mesa", "Southwest", "US Airways", "United", "Virgin America",
]  # fmt: skip

CODES: dict[Airport, str] = {"JFK": "JFK", "LaGuardia": "LGA", "Newark": "EWR"}
"""The data's codes. The tools take the names that people say, which a small model finds more surely."""

MIN_FLIGHTS = 50
"""Airlines with fewer flights are left out of rankings: a handful of flights proves nothing."""


class Rows(Protocol):
    """The result of a query: its rows as mappings from column to value."""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]: ...


class Queries(Protocol):
    """What the tools need of a backend: `SQLBackend` has it."""

    def execute_query(self, sql: str, /, *, parameters: Mapping[str, Any]) -> Rows: ...


def flight_tools(backend: Queries) -> list[Callable[..., str]]:
    """The five tools, reading from ``backend``."""

    def ask(sql: str, **parameters: Any) -> Sequence[Mapping[str, Any]]:
        return backend.execute_query(sql, parameters=parameters).rows

    def most_delayed_airline(airport: Airport) -> str:
        """Find the airline with the worst departure delays from an airport.

        Args:
            airport: airport
        """
        rows = ask(
            "SELECT name, count(dep_delay) AS flights, avg(dep_delay) AS delay "
            "FROM flights JOIN airlines USING (carrier) WHERE origin = :origin "
            "GROUP BY name HAVING count(dep_delay) >= :least ORDER BY delay DESC, name LIMIT 3",
            origin=CODES[airport],
            least=MIN_FLIGHTS,
        )
        first, *others = rows
        following = [f"{row['name']} ({row['delay']:.1f} minutes)" for row in others]
        return (
            f"{first['name']} had the highest average departure delay from {airport}: "
            f"{first['delay']:.1f} minutes over {first['flights']:,} flights. "
            f"Next came {_and(following)}."
        )

    def count_cancelled_flights(airport: Airport, day: Day) -> str:
        """Count the cancelled flights at an airport on a day of February.

        Args:
            airport: airport
            day: day of February
        """
        (row,) = ask(
            "SELECT count(*) AS planned, count(*) - count(dep_delay) AS cancelled FROM flights "
            "WHERE origin = :origin AND month = 2 AND day = :day",
            origin=CODES[airport],
            day=day,
        )
        share = row["cancelled"] / row["planned"]
        return (
            f"{row['cancelled']:,} of the {row['planned']:,} flights from {airport} on {day} February 2013 "
            f"were cancelled ({share:.0%})."
        )

    def get_airline_delay(airline: Airline) -> str:
        """Get the average delay of an airline.

        Args:
            airline: name of the airline
        """
        (row,) = ask(
            "SELECT name, count(dep_delay) AS flights, avg(dep_delay) AS departure, "
            "avg(arr_delay) AS arrival FROM flights JOIN airlines USING (carrier) "
            "WHERE name LIKE :name GROUP BY name",
            name=f"{airline}%",
        )
        return (
            f"{row['name']} left {_late(row['departure'])} and arrived {_late(row['arrival'])} on average, "
            f"over {row['flights']:,} flights."
        )

    def find_busiest_routes(airport: Airport, limit: Limit = 3) -> str:
        """List the busiest routes, the most popular destinations from an airport.

        Args:
            airport: airport
            limit: how many destinations to list
        """
        rows = ask(
            "SELECT dest, name, count(*) AS flights FROM flights JOIN airports ON faa = dest "
            "WHERE origin = :origin GROUP BY dest, name ORDER BY flights DESC, dest LIMIT :limit",
            origin=CODES[airport],
            limit=limit,
        )
        routes = [f"{row['name'] or row['dest']} ({row['flights']:,} flights)" for row in rows]
        return f"The busiest routes from {airport} went to {_and(routes)}."

    def get_weather(airport: Airport, day: Day) -> str:
        """Get the weather at an airport on a day of February.

        Args:
            airport: airport
            day: day of February
        """
        (row,) = ask(
            "SELECT min(temp) AS low, max(temp) AS high, max(wind_speed) AS wind, sum(precip) AS precip, "
            "min(visib) AS visib FROM weather WHERE origin = :origin AND month = 2 AND day = :day",
            origin=CODES[airport],
            day=day,
        )
        return (
            f"At {airport} on {day} February 2013 it was {row['low']:.0f} to {row['high']:.0f} °F, "
            f"with wind up to {row['wind']:.0f} mph, {row['precip']:.2f} inches of precipitation "
            f"and visibility down to {row['visib']:.1f} miles."
        )

    return [
        most_delayed_airline,
        count_cancelled_flights,
        get_airline_delay,
        find_busiest_routes,
        get_weather,
    ]


def _late(value: float) -> str:
    """A delay in words: early is a negative delay in the data."""
    return f"{abs(value):.1f} minutes {'late' if value >= 0 else 'early'}"


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
