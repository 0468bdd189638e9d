"""A table that refuses the rows of one user for good, as PostgreSQL refuses a value: what makes a record poison."""

from tests.pipeline import Pipeline

REFUSED = "refused"
"""The user."""


def refuse_user(pipeline: Pipeline, table: str) -> None:
    """Have `schema.table` refuse every row of the user, with an SQLSTATE of class 22."""
    schema = table.partition(".")[0]
    with pipeline.administer() as connection:
        connection.exec_driver_sql(
            f"""
            CREATE FUNCTION {schema}.refuse_user() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.user_id = '{REFUSED}' THEN RAISE EXCEPTION 'refused' USING ERRCODE = '22023'; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER refuse_user BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_user();
            """
        )
