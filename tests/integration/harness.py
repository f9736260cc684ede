"""All that one integration test needs, under one roof: a scene with a database, topics, a configuration and the
program, each its own."""
import copy
import pathlib

from database import Database
from oracle import Oracle
from process import Usagebox, write_config
from stack import wait_until
from topics import Topics


class Scene:
    """config: sections of config.yaml to add or replace, key by key, such as {"batch": {"max_rows": 100}}."""

    def __init__(self, stack, directory, partitions=3, usage_topics=1, usage_settings=None, config=None):
        self.stack = stack
        self.directory = pathlib.Path(directory)
        self.topics = Topics(stack, partitions, usage_topics, usage_settings)
        self.database = Database(stack)
        self.query, self.value = self.database.query, self.database.value
        self.config = self._default_config()
        self.config_path = self.directory / "config.yaml"
        self.usagebox = Usagebox(self.config_path, self.directory)
        self.configure(config or {})
        self._producer = None

    def _default_config(self):
        return {
            "kafka": {
                "bootstrap_servers": self.stack.kafka,
                "usage_topics": self.topics.usage,
                "enforcement_topic": self.topics.enforcement,
                "group": f"{self.topics.enforcement}.group",
                "partitioner": "murmur2",
                # a killed process's lanes are free sooner than in production
                "properties": {"session.timeout.ms": 2000, "heartbeat.interval.ms": 300},
            },
            "postgres": {"dsn": self.database.dsn},
            "batch": {"max_delay": "200ms"},
            "ceilings": [],
        }

    def configure(self, changes):
        """Changes the configuration file; a key set to None is left out."""
        for section, keys in changes.items():
            if isinstance(keys, dict):
                merged = {**self.config.get(section, {}), **keys}
                self.config[section] = {key: value for key, value in merged.items() if value is not None}
            else:
                self.config[section] = copy.deepcopy(keys)
        write_config(self.config_path, self.config)

    def migrate(self):
        self.usagebox.command("migrate")
        return self

    def produce(self, *values, **where):
        """Sends each value (see TopicProducer.send for what it may be and for where), returns the records."""
        if not self._producer:
            self._producer = self.topics.producer()
        for value in values:
            self._producer.send(value, **where)
        return self._producer.flush()

    def oracle(self, **rules):
        return Oracle(self.topics.partitions, **rules)

    def consumed(self):
        """{(topic, partition): next offset} that PostgreSQL knows of."""
        rows = self.query("SELECT topic, kafka_partition, next_offset FROM consumer_offset")
        return {(topic, partition): offset for topic, partition, offset in rows}

    def wait_consumed(self, timeout_s=60):
        """Waits until every record that lies in the usage topics now is committed in PostgreSQL."""
        ends = {(name, partition): end for name in self.topics.usage
                for partition, end in self.topics.end_offsets(name).items() if end > 0}
        wait_until(lambda: all(self.consumed().get(place, -1) >= end for place, end in ends.items()), timeout_s,
                   f"offsets {ends} in consumer_offset")

    def close(self):
        self.usagebox.stop_all()
        self.stack.ensure_running()
        self.database.drop()
        self.topics.drop()
        self._producer = None  # its threads end with it
