"""The operator's commands."""
import json

import pytest
from psycopg2 import sql


@pytest.fixture
def scene(make_scene):
    return make_scene().migrate()


def ceiling(name, **changes):
    return {"name": name, "customer": "*", "meter": "tool_calls", "period": "day", "limit": 100, "policy": "alert",
            **changes}


class TestCeilings:
    def apply(self, scene, *ceilings, options=()):
        scene.configure({"ceilings": list(ceilings)})
        return json.loads(scene.usagebox.command("ceilings", "apply", "--json", *options).stdout)

    def rows(self, scene):
        return [tuple(row) for row in scene.query(
            "SELECT name, version, limit_quantity::int, generation, retired_generation FROM ceiling ORDER BY 1, 2")]

    def test_only_what_differs_gets_a_new_version(self, scene):
        self.apply(scene, ceiling("a"), ceiling("b"))
        done = self.apply(scene, ceiling("a", limit=200), ceiling("b"))
        assert done["counts"] == {"added": 0, "changed": 1, "retired": 0, "unchanged": 1}
        assert done["generation"] == 2
        assert self.rows(scene) == [("a", 1, 100, 1, 2), ("a", 2, 200, 2, None), ("b", 1, 100, 1, None)]

    def test_the_generation_stays_where_nothing_differs(self, scene):
        self.apply(scene, ceiling("a"))
        assert self.apply(scene, ceiling("a", limit="100.000"))["generation"] == 1
        assert scene.value("SELECT value FROM setting WHERE name = 'ceilings_generation'") == "1"

    def test_a_ceiling_that_vanished_is_retired_and_one_that_returns_goes_on_counting_versions(self, scene):
        self.apply(scene, ceiling("a"))
        assert self.apply(scene)["counts"]["retired"] == 1
        self.apply(scene, ceiling("a"))
        assert self.rows(scene) == [("a", 1, 100, 1, 2), ("a", 2, 100, 3, None)]

    def test_every_part_of_a_definition_counts_as_a_change(self, scene):
        variants = [{"customer": "acme-co"}, {"customer": None, "plan": "pro"}, {"meter": "m"}, {"period": "hour"},
                    {"limit": 99.5}, {"policy": "hard-stop"}, {"clear_level": 50}]
        self.apply(scene, ceiling("a"))
        for version, variant in enumerate(variants, start=2):
            kept = {key: value for key, value in ceiling("a", **variant).items() if value is not None}
            assert self.apply(scene, kept)["ceilings"][0]["version"] == version

    def test_a_dry_run_says_what_would_change_and_changes_nothing(self, scene):
        assert self.apply(scene, ceiling("a"), options=["--dry-run"])["counts"]["added"] == 1
        assert self.rows(scene) == []

    def test_who_applied_it_is_kept(self, scene):
        self.apply(scene, ceiling("a"))
        assert "@" in scene.value("SELECT applied_by FROM ceiling")

    def test_hundreds_of_ceilings_are_applied_at_once(self, scene):
        many = [ceiling(f"c{i}", customer=f"cust-{i}") for i in range(300)]
        assert self.apply(scene, *many)["counts"]["added"] == 300
        assert self.apply(scene, *many[1:])["counts"] == {"added": 0, "changed": 0, "retired": 1, "unchanged": 299}

    def test_list_shows_how_many_customers_are_over_now(self, scene):
        self.apply(scene, ceiling("a"), ceiling("b"))
        scene.query("INSERT INTO ceiling_state VALUES "
                    "(0, 'x', 'a', '{}', now(), now() + interval '1 h', 1, 1, true, 'd1'),"
                    "(0, 'y', 'a', '{}', now(), now() - interval '1 h', 1, 1, true, 'd2'),"
                    "(0, 'z', 'a', '{}', now(), now() + interval '1 h', 1, 2, false, 'd3')")
        listed = json.loads(scene.usagebox.command("ceilings", "list", "--json").stdout)
        assert [(c["ceiling"], c["over_now"]) for c in listed] == [("a", 1), ("b", 0)]

    def test_the_owner_alone_may_apply(self, scene):
        scene.query(sql.SQL("DROP ROLE IF EXISTS {0}").format(sql.Identifier("test_ops_writer")))
        scene.query("CREATE ROLE test_ops_writer LOGIN PASSWORD 'w' IN ROLE usagebox_writer")
        scene.configure({"postgres": {"owner_dsn": scene.database.dsn_as("test_ops_writer", "w")},
                         "ceilings": [ceiling("a")]})
        done = scene.usagebox.command("ceilings", "apply", check=False)
        assert done.returncode == 1 and "usagebox_owner" in done.stderr
        scene.query("DROP ROLE test_ops_writer")
