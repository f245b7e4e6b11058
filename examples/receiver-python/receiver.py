"""A receiver of Tollgate's billing webhooks, with nothing but Python's standard library.

It verifies each delivery, stores every event once, and can prove that it has all of them:

    TOLLGATE_SIGNING_SECRET=whsec_... python3 receiver.py --port 9000 --database events.db
    curl http://127.0.0.1:9000/status

What it answers decides what becomes of a delivery:
  2xx  it is done; so answer only once the events are on disk
  4xx  it is dead at once, and waits until somebody asks for it again
  5xx  it is sent again, for as long as the webhook's retry window lasts
"""

import argparse
import hashlib
import hmac
import json
import os
import sqlite3
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_BYTES_MAX = 4 * 1024 * 1024


def is_authentic(body: bytes, signature_header: str, secret: str) -> bool:
    """Whether one of the header's signatures is ours. While a secret is being rotated there are two.

    `body` must be the bytes as they came: JSON that was parsed and written again has other bytes.
    """
    expected = "v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    signatures = [signature.strip() for signature in signature_header.split(",")]
    return any(hmac.compare_digest(signature.encode(), expected.encode()) for signature in signatures)


class EventStore:
    """Billing events in SQLite, each once, however often it is delivered."""

    def __init__(self, path: str):
        self._path = path
        with closing(self._connect()) as database, database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(
                """CREATE TABLE IF NOT EXISTS events (
                     idempotency_key TEXT PRIMARY KEY,
                     sequence INTEGER NOT NULL,
                     external_entity_id TEXT NOT NULL,
                     model_slug TEXT NOT NULL,
                     input_tokens INTEGER NOT NULL,
                     output_tokens INTEGER NOT NULL,
                     recorded_at TEXT NOT NULL
                   )"""
            )
            database.execute("CREATE INDEX IF NOT EXISTS events_by_sequence ON events (sequence)")

    def add(self, events: list) -> int:
        """Stores what is new of `events`, all or nothing, and returns how many that were."""
        rows = [
            (
                event["idempotencyKey"],
                event["sequence"],
                event["externalEntityId"],
                event["modelSlug"],
                event["tokens"]["inputTokens"],
                event["tokens"]["outputTokens"],
                event["timestamp"],
            )
            for event in events
            if not event.get("test")
        ]
        with closing(self._connect()) as database, database:
            before = database.total_changes
            database.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (idempotency_key) DO NOTHING", rows
            )
            return database.total_changes - before

    def missing(self) -> list:
        """The gaps in the sequence, as [first, last] pairs: events that are still under way, or dead.

        Deliveries may overtake one another, so a gap is news only when it stays. Ask for what is missing with
        POST /v1/gateway/webhooks/{id}/redeliver, or read it from GET /v1/gateway/events.
        """
        query = """SELECT previous + 1, sequence - 1
                   FROM (SELECT sequence, lag(sequence) OVER (ORDER BY sequence) AS previous FROM events)
                   WHERE sequence > previous + 1"""
        with closing(self._connect()) as database:
            return [list(gap) for gap in database.execute(query)]

    def status(self) -> dict:
        with closing(self._connect()) as database:
            events, first, last = database.execute(
                "SELECT count(*), min(sequence), max(sequence) FROM events"
            ).fetchone()
        return {"events": events, "first_sequence": first, "last_sequence": last, "missing": self.missing()}

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=5)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A sender that goes away without a word must not keep its thread.
    timeout = 60
    store: EventStore
    secret: str

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        if length > BODY_BYTES_MAX:
            self.close_connection = True
            return self._answer(413, {"error": "too large"})
        body = self.rfile.read(length)
        if not is_authentic(body, self.headers.get("x-baseten-signature", ""), self.secret):
            return self._answer(401, {"error": "the signature is not valid"})
        delivery = json.loads(body)
        if delivery["type"] != "API_BILLING_USAGE":
            return self._answer(200, {"ignored": delivery["type"]})
        try:
            stored = self.store.add(delivery["data"]["events"])
        except sqlite3.OperationalError as error:
            # The disk is full, or the database is busy: that passes, so ask for another attempt.
            self.log_error("cannot store %s: %s", self.headers.get("x-baseten-request-id"), error)
            return self._answer(503, {"error": "try again"})
        self._answer(200, {"stored": stored})

    def do_GET(self):
        if self.path != "/status":
            return self._answer(404, {"error": "not found"})
        self._answer(200, self.store.status())

    def _answer(self, status: int, body: dict):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main():
    parser = argparse.ArgumentParser(description="Receive Tollgate's billing webhooks.")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--database", default="events.db")
    arguments = parser.parse_args()
    Receiver.secret = os.environ["TOLLGATE_SIGNING_SECRET"]
    Receiver.store = EventStore(arguments.database)
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
