#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Validates snapshots against docs/snapshot.schema.json. usage: snapshot_schema.py SCHEMA DEMO FOLDER

Runs DEMO to write the snapshots into FOLDER. Exit status 77: the Python module jsonschema is not there.
"""
import json
import pathlib
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    print("SKIPPED: the Python module jsonschema (Debian: python3-jsonschema) is not installed")
    sys.exit(77)

schema_path, demo, folder = sys.argv[1:]
pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
subprocess.run([demo, folder, "2000"], check=True)
schema = json.loads(pathlib.Path(schema_path).read_text())
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
problems = 0
for name in ("empty.json", "demo.json", "limited.json"):
    snapshot = json.loads((pathlib.Path(folder) / name).read_text())
    for error in validator.iter_errors(snapshot):
        print(f"{name}: {'/'.join(map(str, error.path))}: {error.message[:200]}")
        problems += 1
    # The schema must be able to say no.
    broken = dict(snapshot, live=snapshot["live"] + [[1, 2, 3]])
    if validator.is_valid(broken) or validator.is_valid(dict(snapshot, more=1)):
        print(f"{name}: the schema takes what is wrong")
        problems += 1
print(f"3 snapshots, {problems} problems")
sys.exit(1 if problems else 0)
