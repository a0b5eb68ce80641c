"""Asks a running server through ADBC, as a BI tool would, and prints what came of each step as one line of JSON.

Usage: ask.py ADDRESS, with {"user", "password", "token", "certificate", "steps"} as the first line of standard input. A step
is an object of one of the names in STEPS; its answer is {"ok": ...} or {"error": what the driver said}.
"""

import json
import sys
import threading

import adbc_driver_flightsql.dbapi as flight
from adbc_driver_flightsql import DatabaseOptions


def table_of(cursor):
    table = cursor.fetch_arrow_table()
    answer = {"columns": table.column_names, "rows": [list(row.values()) for row in table.to_pylist()]}
    said = (table.schema.metadata or {}).get(b"rollcall.warnings")
    return {**answer, "warnings": json.loads(said)} if said else answer


def query(connection, step):
    with connection.cursor() as cursor:
        cursor.execute(step["query"], step.get("parameters"))
        return table_of(cursor)


def field(number, content):
    """A field of a protobuf message that is bytes or text."""
    content = content if isinstance(content, bytes) else content.encode()
    length, size = bytearray(), len(content)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes(length) + bytes([size]) + content


def chunks(request, step):
    """The number of rows, and what is said with the batches: by a plain client of Flight, because the driver shows the latter to nobody."""
    import pyarrow.flight

    client = pyarrow.flight.connect(sys.argv[1].replace("grpc://", "grpc+tcp://"))
    options = pyarrow.flight.FlightCallOptions(headers=[client.authenticate_basic_token(request["user"], request["password"])])
    kind = "type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    command = field(1, kind) + field(2, field(1, step["chunks"]))
    info = client.get_flight_info(pyarrow.flight.FlightDescriptor.for_command(command), options)
    rows, said = 0, []
    for chunk in client.do_get(info.endpoints[0].ticket, options):
        rows += chunk.data.num_rows if chunk.data is not None else 0
        if chunk.app_metadata is not None:
            said.append(json.loads(chunk.app_metadata.to_pybytes()))
    return {"rows": rows, "said": said}


def again(connection, step):
    """One prepared statement with one set of values after the other."""
    with connection.cursor() as cursor:
        answers = []
        for values in step["values"]:
            cursor.execute(step["again"], values)
            answers.append(table_of(cursor)["rows"])
        return answers


def objects(connection, _):
    found = {}
    for catalog in connection.adbc_get_objects(depth="all").read_all().to_pylist():
        for schema in catalog["catalog_db_schemas"] or []:
            for table in schema["db_schema_tables"] or []:
                columns = [column["column_name"] for column in table["table_columns"] or []]
                found[f"{catalog['catalog_name']}.{schema['db_schema_name']}.{table['table_name']}"] = columns
    return found


def schema(connection, step):
    return {field.name: str(field.type) for field in connection.adbc_get_table_schema(step["schema"])}


def prepare(connection, step):
    with connection.cursor() as cursor:
        parameters = cursor.adbc_prepare(step["prepare"])
        return [str(field.type) for field in parameters] if parameters is not None else None


def update(connection, step):
    with connection.cursor() as cursor:
        cursor.executescript(step["update"])
        return True


def transaction(connection, _):
    connection.adbc_connection.set_autocommit(False)
    return True


def ingest(connection, step):
    import pyarrow

    with connection.cursor() as cursor:
        cursor.adbc_ingest(step["ingest"], pyarrow.table({"x": [1]}), mode="append")
        return True


def cancel(connection, step):
    """Says that the query runs, waits for a line, cancels it from another thread and returns what the reader then got."""
    with connection.cursor() as cursor:
        cursor.execute(step["cancel"])

        def when_told():
            sys.stdin.readline()
            cursor.adbc_cancel()

        waiting = threading.Thread(target=when_told)
        waiting.start()
        print(json.dumps({"running": True}), flush=True)
        try:
            return table_of(cursor)
        finally:
            waiting.join()


STEPS = {
    "query": query,
    "chunks": chunks,
    "again": again,
    "objects": objects,
    "schema": schema,
    "types": lambda connection, _: connection.adbc_get_table_types(),
    "info": lambda connection, _: {str(name): value for name, value in connection.adbc_get_info().items()},
    "prepare": prepare,
    "update": update,
    "transaction": transaction,
    "ingest": ingest,
    "cancel": cancel,
}


def main() -> None:
    request = json.loads(sys.stdin.readline())
    options = {}
    if request.get("token"):
        options[DatabaseOptions.AUTHORIZATION_HEADER.value] = f"Bearer {request['token']}"
    else:
        options.update(username=request["user"], password=request["password"])
    if request.get("certificate"):
        with open(request["certificate"], encoding="utf-8") as file:
            options[DatabaseOptions.TLS_ROOT_CERTS.value] = file.read()
    try:
        with flight.connect(sys.argv[1], db_kwargs=options, autocommit=True) as connection:
            for step in request["steps"]:
                name = next(name for name in STEPS if name in step)
                try:
                    answer = {"ok": STEPS[name](request if name == "chunks" else connection, step)}
                except Exception as error:  # noqa: BLE001 - whatever the driver says is the answer that the test looks at
                    answer = {"error": str(error)}
                print(json.dumps(answer, default=str), flush=True)
    except Exception as error:  # noqa: BLE001
        print(json.dumps({"error": str(error)}), flush=True)


if __name__ == "__main__":
    main()
