"""A database of a test's own."""
import json
import uuid
from decimal import Decimal

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from psycopg2 import sql

psycopg2.extensions.register_type(psycopg2.extensions.new_type(
    (17,), "BYTEA_AS_BYTES", lambda value, cursor: None if value is None else bytes.fromhex(value[2:])))


def _exact(text):
    return json.loads(text, parse_float=Decimal)


class Database:
    def __init__(self, stack):
        self.stack = stack
        self.name = f"test_{uuid.uuid4().hex[:12]}"
        self._admin(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name)))
        self.dsn = self.dsn_as()

    def dsn_as(self, user=None, password=None):
        """The DSN for another role than the superuser."""
        parts = psycopg2.extensions.parse_dsn(self.stack.dsn)
        changes = {"user": user, "password": password, "dbname": self.name}
        return psycopg2.extensions.make_dsn(**{**parts, **{k: v for k, v in changes.items() if v is not None}})

    def connect(self, **options):
        connection = psycopg2.connect(self.dsn, connect_timeout=10, **options)
        psycopg2.extras.register_default_json(connection, loads=lambda text: text)  # json is kept byte for byte
        psycopg2.extras.register_default_jsonb(connection, loads=_exact)
        return connection

    def query(self, statement, *parameters):
        """All rows, as named tuples; numerics as Decimal, json as its text, jsonb decoded, bytea as bytes. A
        statement that returns no rows gives []. Committed at once, by a connection of its own, so that
        PostgreSQL may restart between two queries."""
        connection = self.connect()
        try:
            connection.autocommit = True
            with connection.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def value(self, statement, *parameters):
        """The first column of the only row."""
        rows = self.query(statement, *parameters)
        assert len(rows) == 1, f"{statement}: {len(rows)} rows"
        return rows[0][0]

    def drop(self):
        self._admin(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.name)))

    def _admin(self, statement):
        connection = psycopg2.connect(self.stack.dsn, connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()
