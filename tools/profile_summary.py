#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints what the memory pool did, from an SQLite file that nsys has exported. usage: profile_summary.py FILE [--json]

Tables and columns differ between versions of nsys; what is not there is left out. Exit status 1: the file has no events
of the domain cuda_zstd.
"""
import argparse
import base64
import binascii
import json
import re
import sqlite3
import struct
import sys
import urllib.parse

# nsys's numbers for kinds of NVTX events.
PUSH_POP, MARK = 59, 34
CATEGORIES = {1: "allocate", 2: "free", 3: "grow", 4: "trim", 5: "compact", 6: "wave"}


def columns(db, table):
    return {row[1] for row in db.execute(f"PRAGMA table_info({table})")}


# Where versions of nsys put a payload: what is decoded comes first; binaryData holds a payload with a schema as it is.
PAYLOAD_COLUMNS = ("jsonText", "binaryData", "uint64Value", "int64Value", "uint32Value", "int32Value", "doubleValue",
                   "floatValue")


def domains_of(db):
    domains = {row[0] for row in db.execute(
        "SELECT domainId FROM NVTX_EVENTS WHERE text = 'cuda_zstd' AND start IS NOT NULL AND eventType IN (75, 76)")}
    if domains:
        return domains
    # Other versions name the domain by any event that creates it.
    return {row[0] for row in db.execute("SELECT domainId FROM NVTX_EVENTS WHERE text = 'cuda_zstd'")}


def payload_expressions(have):
    """Column: what to select for it. What is binary comes as bytes, whatever type the column has."""
    found = {name: f"CAST(n.{name} AS BLOB)" if name == "binaryData" else f"n.{name}"
             for name in PAYLOAD_COLUMNS if name in have}
    if "jsonTextId" in have:
        by_id = "(SELECT value FROM StringIds WHERE id = n.jsonTextId)"
        found["jsonText"] = f"COALESCE(n.jsonText, {by_id})" if "jsonText" in have else by_id
        found = {"jsonText": found.pop("jsonText"), **found}
    return found


def nvtx_events(db):
    """Events of the domain: (start, end or None, thread, name, category, payload, kind)."""
    have = columns(db, "NVTX_EVENTS")
    if not {"start", "end", "domainId", "eventType"} <= have:
        return []
    domains = domains_of(db)
    text = "n.text"
    join = ""
    if "textId" in have:
        text = "COALESCE(n.text, s.value)"
        join = "LEFT JOIN StringIds s ON s.id = n.textId"
    category = "n.category" if "category" in have else "NULL"
    thread = "n.globalTid" if "globalTid" in have else "0"
    payload = list(payload_expressions(have).values()) or ["NULL"]
    chosen = payload[0] if len(payload) == 1 else f"COALESCE({', '.join(payload)})"
    marks = ",".join("?" for _ in domains)
    return db.execute(
        f"SELECT n.start, n.end, {thread}, {text}, {category}, {chosen}, n.eventType FROM NVTX_EVENTS n {join} "
        f"WHERE n.domainId IN ({marks}) AND n.eventType IN (?, ?) ORDER BY n.start",
        (*domains, PUSH_POP, MARK)).fetchall()


def payload_columns(db):
    """For whoever looks for payloads: each column that has one, how many, and one of them."""
    have = columns(db, "NVTX_EVENTS")
    domains = domains_of(db) if "domainId" in have else set()
    marks = ",".join("?" for _ in domains)
    found = []
    for name, expression in payload_expressions(have).items():
        rows, sample = db.execute(f"SELECT COUNT(*), MAX({expression}) FROM NVTX_EVENTS n WHERE n.domainId IN ({marks}) AND "
                                  f"{expression} IS NOT NULL AND n.eventType IN (?, ?)", (*domains, PUSH_POP, MARK)).fetchone()
        if rows:
            found.append((name, rows, sample.hex() if isinstance(sample, bytes) else repr(sample)))
    return found


# The payload with the schema "pool call": bytes, stream, pool, and four bytes that are zero.
POOL_CALL = struct.Struct("<QQII")
# What nsys puts before it: domain, schema, the payload's bytes, and those with the header.
HEADER = struct.Struct("<QQQQ")


def pool_call_bytes(data):
    """The bytes that a payload with the schema says, found by its size and by what must be zero; else 0."""
    if len(data) >= HEADER.size + POOL_CALL.size and HEADER.unpack_from(data)[2] == POOL_CALL.size:
        return POOL_CALL.unpack_from(data, HEADER.size)[0]
    # Another header, or none: the payload comes last.
    if len(data) >= POOL_CALL.size:
        size, _, _, zero = POOL_CALL.unpack_from(data, len(data) - POOL_CALL.size)
        return size if zero == 0 else 0
    return 0


def payload_bytes(value):
    """The bytes of a payload: a number, JSON in which a member is called bytes, or the payload itself, as it is, in
    hexadecimal digits or in base 64."""
    if value is None:
        return 0
    if isinstance(value, (int, float)):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"(0x)?([0-9a-fA-F]{2}){24,}", value):
        value = value.encode()
    if isinstance(value, bytes):
        if re.fullmatch(rb"(0x)?([0-9a-fA-F]{2}){24,}", value):
            return pool_call_bytes(bytes.fromhex(value.decode().removeprefix("0x")))
        if re.fullmatch(rb"[A-Za-z0-9+/]{32,}={0,2}", value):
            try:
                return pool_call_bytes(base64.b64decode(value, validate=True))
            except binascii.Error:
                return 0
        if not value.lstrip().startswith(b"{"):
            return pool_call_bytes(value)
        value = value.decode(errors="replace")
    found = re.search(r'"bytes"\s*:\s*"?(\d+)', str(value)) or re.fullmatch(r"\s*(\d+)\s*", str(value))
    return int(found.group(1)) if found else 0


def nesting_problems(ranges):
    """Ranges of one thread that overlap without one being inside the other."""
    problems = 0
    open_ends = {}
    for start, end, thread, *_ in sorted(ranges, key=lambda r: (r[2], r[0], -r[1])):
        stack = open_ends.setdefault(thread, [])
        while stack and stack[-1] <= start:
            stack.pop()
        if stack and end > stack[-1]:
            problems += 1
        stack.append(end)
    return problems


def generic_counters(db):
    """Counters that nsys exports as generic events, a type for each: name -> values in order of time."""
    if not {"typeId", "nameId"} <= columns(db, "GENERIC_EVENT_TYPES") or not columns(db, "GENERIC_EVENT_DATA"):
        return {}
    values = {}
    have = columns(db, "GENERIC_EVENT_DATA")
    fields = [f"d.{name}" for name in ("intVal", "uintVal", "doubleVal", "floatVal") if name in have]
    for name, value in db.execute(
            f"SELECT s.value, COALESCE({', '.join([*fields, 'NULL'])}) FROM GENERIC_EVENTS e "
            "JOIN GENERIC_EVENT_TYPES t ON t.typeId = e.typeId JOIN StringIds s ON s.id = t.nameId "
            "JOIN GENERIC_EVENT_DATA d ON d.genericEventId = e.genericEventId ORDER BY e.timestamp, e.genericEventId"):
        values.setdefault(str(name), []).append(value)
    return values


def counter_samples(db):
    """How many samples each NVTX counter has, by the counter's name, as far as this version of nsys exports them."""
    found = {name: len(values) for name, values in generic_counters(db).items()}
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in (t for t in tables if "NVTX" in t.upper() and "COUNTER" in t.upper()):
        have = columns(db, table)
        name = next((n for n in ("nameId", "name", "counterName") if n in have), None)
        if name is None:
            continue
        text = f"(SELECT value FROM StringIds WHERE id = c.{name})" if name == "nameId" else f"c.{name}"
        for (label, count) in db.execute(f'SELECT {text}, COUNT(*) FROM "{table}" c GROUP BY 1'):
            if label is not None:
                found[str(label)] = found.get(str(label), 0) + count
    return found


def summarize(db):
    events = nvtx_events(db) if columns(db, "NVTX_EVENTS") else []
    ranges = [e for e in events if e[6] == PUSH_POP and e[1] is not None]
    names = {}
    for start, end, _, name, category, payload, kind in events:
        entry = names.setdefault((name, kind), {"name": name, "kind": "mark" if kind == MARK else "range", "count": 0,
                                                "ns": 0, "longest_ns": 0, "bytes": 0,
                                                "category": CATEGORIES.get(category, category)})
        entry["count"] += 1
        entry["bytes"] += payload_bytes(payload)
        if kind == PUSH_POP and end is not None:
            entry["ns"] += end - start
            entry["longest_ns"] = max(entry["longest_ns"], end - start)
    kernels = []
    if {"start", "end", "shortName"} <= columns(db, "CUPTI_ACTIVITY_KIND_KERNEL"):
        kernels = [dict(zip(("name", "count", "ns"), row)) for row in db.execute(
            "SELECT s.value, COUNT(*), SUM(k.end - k.start) FROM CUPTI_ACTIVITY_KIND_KERNEL k "
            "JOIN StringIds s ON s.id = k.shortName GROUP BY s.value ORDER BY 3 DESC")]
    tables = sorted(row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
    return {"events": sorted(names.values(), key=lambda e: -e["ns"]), "kernels": kernels,
            "badly_nested": nesting_problems(ranges), "open_ranges": sum(e[6] == PUSH_POP and e[1] is None for e in events),
            "counters": counter_samples(db), "counter_tables": [t for t in tables if "COUNTER" in t.upper()]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args()
    db = sqlite3.connect(f"file:{urllib.parse.quote(arguments.file)}?mode=ro", uri=True)
    summary = summarize(db)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        print(f"{'pool event':<28}{'kind':<7}{'count':>9}{'total us':>13}{'longest us':>13}{'MiB':>12}")
        for e in summary["events"]:
            print(f"{e['name'] or '?':<28}{e['kind']:<7}{e['count']:>9}{e['ns'] / 1e3:>13.1f}{e['longest_ns'] / 1e3:>13.1f}"
                  f"{e['bytes'] / 2**20:>12.1f}")
        print(f"\n{'kernel':<48}{'count':>9}{'total us':>13}")
        for k in summary["kernels"][:20]:
            print(f"{k['name'][:47]:<48}{k['count']:>9}{k['ns'] / 1e3:>13.1f}")
        for name, samples in sorted(summary["counters"].items()):
            print(f"{'counter ' + name:<48}{samples:>9}")
        print(f"\n{summary['badly_nested']} ranges badly nested, {summary['open_ranges']} never ended; "
              f"{len(summary['counters'])} counters exported")
    if not summary["events"]:
        print("profile_summary: the file has no events of the domain cuda_zstd", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
