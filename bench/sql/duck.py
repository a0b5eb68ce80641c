"""DuckDB over the Arrow batches that the server gave out: the batches as they are, nothing copied into tables of its own.

Usage: duck.py QUERIES.json ROUNDS STREAM.arrow...
Prints one line of JSON: for each query the times of its rounds in milliseconds and its rows as text.
"""

import json
import math
import sys
import time

import duckdb
import pyarrow
import pyarrow.ipc


def main(queries_path, rounds, paths):
    batches = []
    for path in paths:
        with pyarrow.memory_map(path) as source:
            batches.extend(pyarrow.ipc.open_stream(source).read_all().to_batches())
    telemetry = pyarrow.Table.from_batches(batches)
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.register("telemetry", telemetry)
    answers = []
    with open(queries_path) as file:
        queries = json.load(file)
    for query in queries:
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            rows = connection.execute(query).fetchall()
            times.append((time.perf_counter() - began) * 1000)
        answers.append({"ms": times, "rows": [[text(value) for value in row] for row in rows]})
    print(json.dumps({"version": duckdb.__version__, "rows": telemetry.num_rows, "answers": answers}))


def text(value):
    if isinstance(value, float) and math.isnan(value):
        # JSON has no such number; the server's answer says null.
        return None
    return value.hex() if isinstance(value, bytes) else value if isinstance(value, (int, float, type(None))) else str(value)


main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
