"""Bring a database to a revision of its tables, up or down."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from service.infra.settings import SettingsError

_ROOT = Path(__file__).resolve().parents[2]

POSTGRES_MIN = 15
"""Oldest PostgreSQL we promise to run on; the suite runs on it."""


def require(version: tuple[int | str, ...]) -> None:
    """Refuse a server older than we promise to run on. version: as the driver tells it, the major number first."""
    major = int(version[0])
    if major < POSTGRES_MIN:
        raise SettingsError(
            f"DATABASE_URL names a PostgreSQL {major}; this needs PostgreSQL {POSTGRES_MIN} or newer. "
            "Unset it to use the embedded one."
        )


def upgrade(url: str, revision: str = "head") -> None:
    """Apply the revisions up to this one. Safe to repeat. Raises what the database raises; each revision is whole or absent."""
    command.upgrade(_config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Undo the revisions after this one; "base" undoes all, with their data."""
    command.downgrade(_config(url), revision)


def revisions() -> list[str]:
    """Return all revisions, oldest first."""
    scripts = ScriptDirectory.from_config(_config(""))
    return [script.revision for script in scripts.walk_revisions()][::-1]


def _config(url: str) -> Config:
    config = Config(_ROOT / "alembic.ini")
    # Not through the ini file, which would read the % of an encoded password as its own.
    config.attributes["url"] = url
    return config
