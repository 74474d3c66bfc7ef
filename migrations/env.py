"""How Alembic reaches the database, and which tables it compares with."""

from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

import service.tables  # noqa: F401 # for its effect: importing the tables fills SQLModel.metadata
from service.infra.migrate import require
from service.infra.settings import load

LOCK_TIMEOUT_MS = 5_000
"""A migration that cannot have its lock gives up, instead of making every request queue behind it."""


def main() -> None:
    url = context.config.attributes.get("url") or load().database_url
    if url is None:
        raise SystemExit("Set DATABASE_URL to the database that is to be migrated.")
    engine = create_engine(
        url,
        poolclass=NullPool,
        connect_args={
            "application_name": "koc migrate",
            "options": f"-c lock_timeout={LOCK_TIMEOUT_MS} -c timezone=UTC",
        },
    )
    with engine.connect() as connection:
        version = connection.dialect.server_version_info
        assert version, "the driver tells the version of every server"
        require(version)
        context.configure(
            connection=connection,
            target_metadata=SQLModel.metadata,
            transaction_per_migration=True,
            compare_type=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


main()
