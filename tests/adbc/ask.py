"""Asks a running server through ADBC, as a BI tool would, and prints what came as one line of JSON.

Usage: ask.py ADDRESS, with {"user", "password", "sql", "certificate"} as JSON on standard input.
"""

import json
import sys

import adbc_driver_flightsql.dbapi as flight
from adbc_driver_flightsql import DatabaseOptions


def main() -> None:
    request = json.load(sys.stdin)
    options = {"username": request["user"], "password": request["password"]}
    if request.get("certificate"):
        with open(request["certificate"], encoding="utf-8") as file:
            options[DatabaseOptions.TLS_ROOT_CERTS.value] = file.read()
    try:
        with flight.connect(sys.argv[1], db_kwargs=options, autocommit=True) as connection:
            tables = []
            for catalog in connection.adbc_get_objects(depth="tables").read_all().to_pylist():
                for schema in catalog["catalog_db_schemas"] or []:
                    tables += [table["table_name"] for table in schema["db_schema_tables"] or []]
            with connection.cursor() as cursor:
                cursor.execute(request["sql"])
                table = cursor.fetch_arrow_table()
        answer = {"tables": tables, "columns": table.column_names, "rows": [list(row.values()) for row in table.to_pylist()]}
    except Exception as error:  # noqa: BLE001 - whatever the driver says is the answer that the test looks at
        answer = {"error": str(error)}
    print(json.dumps(answer, default=str))


if __name__ == "__main__":
    main()
