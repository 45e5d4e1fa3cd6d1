"""Parses every statement of the pack in the dialects of the engines it is for.

A parser is no engine: it finds what none of them would read. What the statements
mean is tested on DuckDB (make test) and Trino (make test-trino)."""

import pathlib
import sys

import sqlglot

conf = pathlib.Path(__file__).resolve().parents[2]
athena = sorted(conf.glob("athena/queries/*.sql")) + sorted(conf.glob("athena/compliance/*.sql"))
athena += [p for p in (conf / "athena/views.sql", conf / "athena/compaction.sql") if p.exists()]
jobs = [(conf / "athena/table.sql", ["athena"]), (conf / "trino/table.sql", ["trino"])]
jobs += [(p, ["athena", "trino", "duckdb"]) for p in athena]

count = 0
for path, dialects in jobs:
    text = path.read_text()
    for dialect in dialects:
        if path.name == "compaction.sql" and dialect == "duckdb":
            continue
        try:
            statements = [s for s in sqlglot.parse(text, read=dialect) if s is not None]
        except sqlglot.errors.ParseError as error:
            sys.exit(f"{path.relative_to(conf.parent)} is not {dialect}'s SQL: {error}")
        commands = [s for s in statements if isinstance(s, sqlglot.exp.Command)]
        if not statements or commands:
            sys.exit(f"{path.relative_to(conf.parent)} is not understood as {dialect}'s SQL")
        count += len(statements)
print(f"parse.py: {count} statements parsed by sqlglot {sqlglot.__version__}")
