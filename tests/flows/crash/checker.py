"""Judge a crash run from three witnesses: the senders' log, the database, the province's ledger.

Prints JSON: counts, and a list for each law that was broken. It imports nothing of the hub.
"""

import argparse
import collections
import json
import pathlib
import re
import sys

import psycopg


def judge(log, database, ledger):
    sent, acknowledged = set(), set()
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        if entry["event"] == "sent":
            sent.add(entry["id"])
        elif entry["code"] in ("AA", "CA"):
            acknowledged.add(entry["id"])
    with psycopg.connect(database) as connection:
        inbox = connection.execute("select control_id, state from inbox").fetchall()
        bodies = connection.execute(
            "select b.fid, b.ver, b.body from ("
            " select rid, fid, ver, body from resource join rtype using (tid)"
            "  where name = 'Patient' union all"
            " select h.rid, r.fid, h.ver, h.body from resource_history h"
            "  join resource r using (rid) join rtype t on t.tid = r.tid"
            "  where t.name = 'Patient') b order by b.fid, b.ver"
        ).fetchall()
        encounters = connection.execute(
            "select count(*) from resource join rtype using (tid) where name = 'Encounter'"
        ).fetchone()[0]
        outbox = connection.execute("select key, state, order_key, id from outbox").fetchall()
    kept = collections.Counter(control_id for control_id, _ in inbox)
    effects, disorder, identities = effects_of(bodies)
    registered = (
        [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    )
    taken = {entry["msg_id"] for entry in registered}
    done = {key for key, state, *_ in outbox if state in ("accepted", "settled")}
    latest = {}
    for key, _state, order_key, _id in sorted(outbox, key=lambda row: row[3]):
        latest[order_key] = key
    people = collections.Counter((e["subject"], e["data_version"]) for e in registered)
    return {
        "sent": len(sent),
        "acknowledged": len(acknowledged),
        "patients": len(identities),
        "encounters": encounters,
        "registered": len(registered),
        "states": dict(collections.Counter(state for _, state in inbox)),
        "deliveries": dict(collections.Counter(row[1] for row in outbox)),
        "lost": sorted(id_ for id_ in acknowledged if not kept[id_] or not effects[id_]),
        "kept_twice": sorted(id_ for id_, count in kept.items() if count > 1),
        "effect_twice": sorted(id_ for id_, count in effects.items() if count > 1),
        "disorder": disorder,
        "patients_twice": sorted(i for i, count in identities.items() if count > 1),
        "registered_twice": sorted(str(p) for p, count in people.items() if count > 1),
        "claimed_but_not_taken": sorted(done - taken),
        "taken_but_not_known": sorted(taken - {row[0] for row in outbox}),
        "latest_not_registered": sorted(k for k, key in latest.items() if key not in taken),
    }


def effects_of(bodies):
    """Count the versions each message made, by the house number it brought."""
    effects, disorder = collections.Counter(), []
    identities, last = collections.Counter(), {}
    for fid, _version, body in bodies:
        record = re.search(r'"M(\d{6})"', body).group(1)
        sequence = int(re.search(r"测试路(\d+)号", body).group(1))
        if fid not in last:
            identities[record] += 1
        elif sequence <= last[fid]:
            disorder.append(f"{record}: {last[fid]} before {sequence}")
        last[fid] = sequence
        number = int(record)
        effects[f"S{number // 100}P{number % 100:02}N{sequence:04}"] += 1
    return effects, disorder, identities


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=pathlib.Path, required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--ledger", type=pathlib.Path, required=True)
    options = parser.parse_args()
    verdict = judge(options.log, options.database, options.ledger)
    sys.stdout.write(json.dumps(verdict, indent=1))


main()
