#!/usr/bin/env python3
"""Reads archives of the plugin with pyarrow, which shares no code with the plugin
nor with the other engines that the tests ask.

usage: check_pyarrow.py archive FOLDER EVENTS.ndjson
       check_pyarrow.py evolution FOLDER ROWS.json

archive holds every file under FOLDER against schema version 1, and all rows
against the events that were posted, one in each line. The archive must be of
policy none and redaction off.

evolution reads the files under FOLDER, which do not all have the same columns, as
one table, and compares it with ROWS.json: a list of rows, by column.

It prints one line and exits with 0, or with 1 and what is wrong. It looks at
values and types only, not at how they are encoded.
"""
import collections
import datetime
import json
import pathlib
import sys

import pyarrow
import pyarrow.dataset
import pyarrow.parquet

TEXT, NUMBER = pyarrow.string(), pyarrow.int32()
TIME = pyarrow.timestamp("us", tz="UTC")


def required(name, kind):
    return pyarrow.field(name, kind, nullable=False)


TEXTS = pyarrow.list_(required("element", TEXT))


def struct(*fields):
    """A struct of these fields, a name alone being a text that is never NULL."""
    return pyarrow.struct([required(f, TEXT) if isinstance(f, str) else f for f in fields])


USER = struct("username", "uid", required("groups", TEXTS),
              required("extra", pyarrow.map_(TEXT, required("value", TEXTS))))

# Schema version 1, written down once more: what is here is not read from the code.
VERSION_1 = pyarrow.schema([
    required("auditid", TEXT),
    required("stage", TEXT),
    required("level", TEXT),
    required("recordedlevel", TEXT),
    required("verb", TEXT),
    required("requestreceivedtimestamp", TIME),
    required("stagetimestamp", TIME),
    required("receivedtimestamp", TIME),
    required("requesturi", TEXT),
    required("userinfo", USER),
    pyarrow.field("impersonateduser", USER),
    pyarrow.field("authenticationmetadata", struct("impersonationconstraint")),
    required("sourceips", TEXTS),
    required("useragent", TEXT),
    pyarrow.field("objectref", struct("resource", "namespace", "name", "uid", "apigroup",
                                      "apiversion", "resourceversion", "subresource")),
    pyarrow.field("responsestatus", struct(pyarrow.field("code", NUMBER), "status", "reason", "message",
                                           pyarrow.field("details", TEXT))),
    pyarrow.field("requestobject", TEXT),
    pyarrow.field("responseobject", TEXT),
    required("annotations", pyarrow.map_(TEXT, required("value", TEXT))),
    required("decision", TEXT),
    required("decisionreason", TEXT),
    pyarrow.field("otherfields", TEXT),
    required("source", TEXT),
    pyarrow.field("policyrule", NUMBER),
    required("policydigest", TEXT),
    required("redactions", NUMBER),
])


class Wrong(Exception):
    """What was read is not what was written."""


def files_under(folder):
    files = sorted(str(f) for f in pathlib.Path(folder).glob("cluster=*/dt=*/*.parquet"))
    if not files:
        raise Wrong(f"no Parquet files under {folder}")
    return files


def check_schema(file, schema):
    if schema.names[:len(VERSION_1.names)] != VERSION_1.names:
        raise Wrong(f"{file} has the columns {schema.names}, want {VERSION_1.names} and later ones")
    for want in VERSION_1:
        got = schema.field(want.name)
        if not got.equals(want):
            raise Wrong(f"{file}: {want.name} is {got}, want {want}")


def rows_of(table):
    """The rows with times as microseconds since 1970, and maps as dicts."""
    for i, field in enumerate(table.schema):
        if field.type == TIME:
            table = table.set_column(i, field.name, table.column(i).cast(pyarrow.int64()))
    return table.to_pylist(maps_as_pydicts="strict")


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def micros(text):
    """A time as the API server writes it; fromisoformat drops what is beyond microseconds."""
    return (datetime.datetime.fromisoformat(text) - EPOCH) // datetime.timedelta(microseconds=1)


def user(u):
    u = u or {}
    return {"username": u.get("username", ""), "uid": u.get("uid", ""), "groups": u.get("groups") or [],
            "extra": {key: values or [] for key, values in (u.get("extra") or {}).items()}}


def texts(struct_, **names):
    """The fields of a struct under the names of columns, '' where absent."""
    return None if struct_ is None else {column: struct_.get(name, "") for column, name in names.items()}


def status(s):
    if s is None:
        return None
    return texts(s, status="status", reason="reason", message="message") | {
        "code": s.get("code"), "details": s.get("details")}


SECRETS = ("secrets/", "configmaps/", "serviceaccounts/token", "tokenreviews/")


def is_capped(row):
    """Whether a row is at a lower level than recorded. Without a policy only those
    may be whose bodies are secrets, or might be: their URI is of another API group
    than their objectRef."""
    if row["level"] == row["recordedlevel"]:
        return False
    ref, path = row["objectref"] or collections.defaultdict(str), row["requesturi"].split("/")
    group = path[2] if path[1:2] == ["apis"] else ""
    kind = f"{ref['resource']}/{ref['subresource']}"
    if row["level"] != "Metadata" or kind not in SECRETS and ref["apigroup"] == group:
        raise Wrong(f"{key_of_row(row)}: {kind} recorded at {row['recordedlevel']} is at {row['level']}")
    return True


def expected_row(event, capped):
    """What the columns say of an event. Of a capped one neither bodies nor what
    webhooks patched are kept."""
    annotations = {key: value for key, value in (event.get("annotations") or {}).items()
                   if not (capped and key.startswith("patch.webhook.admission.k8s.io/"))}
    ref = event.get("objectRef")
    return {
        "auditid": event["auditID"], "stage": event.get("stage", ""), "recordedlevel": event.get("level", ""),
        "verb": event.get("verb", ""), "requesturi": event.get("requestURI", ""), "useragent": event.get("userAgent", ""),
        "requestreceivedtimestamp": micros(event["requestReceivedTimestamp"]),
        "stagetimestamp": micros(event["stageTimestamp"]),
        "userinfo": user(event.get("user")),
        "impersonateduser": user(event["impersonatedUser"]) if event.get("impersonatedUser") is not None else None,
        "authenticationmetadata": texts(event.get("authenticationMetadata"), impersonationconstraint="impersonationConstraint"),
        "sourceips": event.get("sourceIPs") or [],
        "objectref": texts(ref, resource="resource", namespace="namespace", name="name", uid="uid", apigroup="apiGroup",
                           apiversion="apiVersion", resourceversion="resourceVersion", subresource="subresource"),
        "responsestatus": status(event.get("responseStatus")),
        "requestobject": None if capped else event.get("requestObject"),
        "responseobject": None if capped else event.get("responseObject"),
        "annotations": annotations,
        "decision": annotations.get("authorization.k8s.io/decision", ""),
        "decisionreason": annotations.get("authorization.k8s.io/reason", ""),
        "policyrule": None, "redactions": 0,
    } | ({"source": event["source"]} if "source" in event else {})


def parsed(row):
    """A row whose JSON texts are values."""
    def value(text):
        return None if text is None else json.loads(text)
    row = dict(row, requestobject=value(row["requestobject"]), responseobject=value(row["responseobject"]))
    if row["responsestatus"] is not None:
        row["responsestatus"] = dict(row["responsestatus"], details=value(row["responsestatus"]["details"]))
    return row


def key_of_row(row):
    return row["auditid"], row["stage"], row["stagetimestamp"]


def key_of_event(event):
    return event["auditID"], event.get("stage", ""), micros(event["stageTimestamp"])


def in_order(values):
    """The same events may stand under one key, as repeats or since a client chose its audit ID."""
    return sorted(values, key=lambda v: json.dumps(v, sort_keys=True))


def compare(rows, events):
    """Holds rows against events."""
    by_key = collections.defaultdict(list)
    for event in events:
        by_key[key_of_event(event)].append(event)
    found = collections.defaultdict(list)
    for row in rows:
        found[key_of_row(row)].append(parsed(row))
    if set(found) != set(by_key):
        raise Wrong(f"only in the archive: {sorted(set(found) - set(by_key))[:3]}, only posted: {sorted(set(by_key) - set(found))[:3]}")
    for key, group in found.items():
        capped = any(is_capped(row) for row in group)
        want = in_order([expected_row(event, capped) for event in by_key[key]])
        got = in_order([{name: row[name] for name in want[0]} for row in group])
        if len(got) != len(want):
            raise Wrong(f"{key}: {len(got)} rows of {len(want)} events")
        for g, w in zip(got, want):
            for name in w:
                if g[name] != w[name]:
                    raise Wrong(f"{key}: {name} is {g[name]!r}, want {w[name]!r}")


def archive(folder, events_file):
    rows, files = [], files_under(folder)
    for file in files:
        check_schema(file, pyarrow.parquet.read_schema(file))
        # partitioning: cluster and dt stand in the path, not in the file.
        rows += rows_of(pyarrow.parquet.read_table(file, partitioning=None))
    with open(events_file, encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines]
    compare(rows, events)
    capped = sum(map(is_capped, rows))
    bodies = sum(row["requestobject"] is not None or row["responseobject"] is not None for row in rows)
    return f"{len(files)} files of schema version 1, {len(rows)} rows as posted, {bodies} of them with bodies, {capped} at a lower level"


def evolution(folder, rows_file):
    files = files_under(folder)
    schemas = [pyarrow.parquet.read_schema(file) for file in files]
    for file, schema in zip(files, schemas):
        check_schema(file, schema)
    unified = pyarrow.unify_schemas([s.remove_metadata() for s in schemas])
    later = unified.names[len(VERSION_1.names):]
    if not later:
        raise Wrong(f"no file under {folder} has a column that version 1 has not")
    with open(rows_file, encoding="utf-8") as f:
        want = json.load(f)
    for row in want:
        for name in ("requestreceivedtimestamp", "stagetimestamp", "receivedtimestamp"):
            row[name] = micros(row[name])
    same_rows(rows_of(pyarrow.dataset.dataset(files, schema=unified).to_table()), want)
    # Whoever still has the old definition.
    same_rows(rows_of(pyarrow.dataset.dataset(files, schema=VERSION_1).to_table()),
              [{name: row[name] for name in VERSION_1.names} for row in want])
    return f"{len(files)} files, {len(want)} rows, NULL where a file has no {', '.join(later)}"


def same_rows(got, want):
    if len(got) != len(want):
        raise Wrong(f"{len(got)} rows, want {len(want)}")
    for g, w in zip(in_order(got), in_order(want)):
        if g != w:
            raise Wrong(f"a row is\n{g}, want\n{w}")


def main(arguments):
    modes = {"archive": archive, "evolution": evolution}
    if len(arguments) != 3 or arguments[0] not in modes:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(f"check_pyarrow.py: pyarrow {pyarrow.__version__}: {modes[arguments[0]](*arguments[1:])}")
    except Wrong as wrong:
        print(f"check_pyarrow.py: {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
