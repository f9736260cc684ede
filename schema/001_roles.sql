-- Who may do what. Roles belong to the whole server: they are made where they are missing, and a server that
-- keeps CREATEROLE from the migrating user can have them made beforehand.
--
--   usagebox_owner    owns all objects; makes partitions and seals days
--   usagebox_writer   what `usagebox run` needs; only ever adds to what is append-only
--   usagebox_finance  reads
--
-- Nobody logs in as one of them: grant them to those who do.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY ['usagebox_owner', 'usagebox_writer', 'usagebox_finance'] LOOP
        IF to_regrole(role_name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN
                    NULL; -- a migration of another database of this server was faster
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION 'role % is missing and % may not create it', role_name, current_user
                        USING ERRCODE = 'insufficient_privilege',
                              HINT = 'Run as a superuser: CREATE ROLE usagebox_owner NOLOGIN; CREATE ROLE '
                                     'usagebox_writer NOLOGIN; CREATE ROLE usagebox_finance NOLOGIN; GRANT '
                                     'usagebox_owner TO ' || quote_ident(current_user);
            END;
        END IF;
    END LOOP;
END
$$;

DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT usagebox_owner TO %I', current_user);
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        IF NOT pg_has_role(current_user, 'usagebox_owner', 'MEMBER') THEN
            RAISE EXCEPTION '% is no member of usagebox_owner and may not become one', current_user
                USING ERRCODE = 'insufficient_privilege',
                      HINT = 'Run as a superuser: GRANT usagebox_owner TO ' || quote_ident(current_user);
        END IF;
END
$$;

-- Ours to grant for the database's owner; else a superuser may have done so.
DO $$
BEGIN
    GRANT USAGE, CREATE ON SCHEMA public TO usagebox_owner;
    GRANT USAGE ON SCHEMA public TO usagebox_writer, usagebox_finance;
EXCEPTION
    WHEN insufficient_privilege THEN
        NULL;
END
$$;

DO $$
BEGIN
    IF NOT has_schema_privilege('usagebox_owner', 'public', 'CREATE') THEN
        RAISE EXCEPTION 'usagebox_owner may not create tables in schema public'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Run as the database''s owner: GRANT USAGE, CREATE ON SCHEMA public TO usagebox_owner; '
                         'GRANT USAGE ON SCHEMA public TO usagebox_writer, usagebox_finance';
    END IF;
END
$$;

SET LOCAL ROLE usagebox_owner;

-- runs_with: programs from this migration on still run with the schema as this one leaves it; NULL: from its own
-- number on. A migration that an older program can live with sets it.
CREATE TABLE schema_migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    runs_with integer,
    applied_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON schema_migration TO usagebox_writer, usagebox_finance;
