"""Asks a running server through the PostgreSQL protocol with psycopg, and prints what came of each step as one line of JSON.

Usage: ask_postgres.py "CONNECTION STRING", with a list of steps as the first line of standard input. A step is an object of one
of the names in STEPS; its answer is {"ok": ...} or {"error": what the driver said}.
"""

import datetime
import decimal
import json
import sys
import threading
import uuid

import psycopg

# What JSON has no type for: {"uuid": "..."} is one.
TYPES = {
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
    "instant": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "minutes": lambda minutes: datetime.timedelta(minutes=minutes),
}


def typed(value):
    if isinstance(value, dict):
        (name, text), = value.items()
        return TYPES[name](text)
    return value


def query(connection, step):
    with connection.cursor(binary=step.get("binary", False)) as cursor:
        parameters = step.get("parameters")
        cursor.execute(step["query"], parameters and [typed(value) for value in parameters])
        if cursor.description is None:
            return {"done": cursor.statusmessage}
        return {"columns": [column.name for column in cursor.description], "rows": [list(row) for row in cursor.fetchall()]}


def noticed(connection, step):
    """The answer with what the server said beside it."""
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(f"{notice.severity}: {notice.message_primary}"))
    return {**query(connection, {"query": step["noticed"]}), "notices": notices}


def transaction(connection, step):
    with connection.transaction():
        return query(connection, {"query": step["transaction"]})


def cancel(connection, step):
    """Says that the query runs, waits for a line, and cancels it from another thread."""

    def when_told():
        sys.stdin.readline()
        connection.cancel()

    waiting = threading.Thread(target=when_told)
    waiting.start()
    print(json.dumps({"running": True}), flush=True)
    try:
        return query(connection, {"query": step["cancel"]})
    finally:
        waiting.join()


def prepare(connection, step):
    """Prepares statements under names of their own until one is refused; how many were kept, and why no more."""
    text = "select 1 /*" + "x" * step.get("length", 0) + "*/"
    for number in range(step["prepare"]):
        result = connection.pgconn.prepare(f"p{number}".encode(), text.encode())
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            return {"kept": number, "code": result.error_field(psycopg.pq.DiagnosticField.SQLSTATE).decode()}
    return {"kept": step["prepare"]}


STEPS = {"query": query, "prepare": prepare, "noticed": noticed, "transaction": transaction, "cancel": cancel}


def main() -> None:
    steps = json.loads(sys.stdin.readline())
    try:
        with psycopg.connect(sys.argv[1], autocommit=True) as connection:
            for step in steps:
                name = next(name for name in STEPS if name in step)
                try:
                    answer = {"ok": STEPS[name](connection, step)}
                except psycopg.Error as error:
                    answer = {"error": str(error), "code": error.sqlstate}
                print(json.dumps(answer, default=str), flush=True)
    except psycopg.Error as error:
        print(json.dumps({"error": str(error)}), flush=True)


if __name__ == "__main__":
    main()
