"""Alembic's entry: runs the migrations on the connection that `mutant.storage.migrate` hands over."""

from alembic import context
from sqlalchemy import Connection

from mutant.storage.schema import Base


def run() -> None:
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection, target_metadata=Base.metadata, render_as_batch=True, transactional_ddl=False
    )
    context.run_migrations()


run()
