"""What is promised of a lake holds where its catalog is in PostgreSQL: the same tests, another place."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from shared_storage import Postgres, postgres

# The tests themselves, with the fixture `lake` below in the place of theirs.
from test_rebuild import *  # noqa: F403
from test_response_scores import *  # noqa: F403
from test_steps import *  # noqa: F403
from test_take import *  # noqa: F403

from tracemill.warehouse import Lake, Place

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
_NUMBERS = count()


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="session")
def empty_shared(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a new lake in the database `empty`, to copy."""
    root = tmp_path_factory.mktemp("shared") / "lake"
    Lake.create(Place(root=root, catalog=server.create("empty"))).close()
    return root


@pytest.fixture
def lake(tmp_path: Path, server: Postgres, empty_shared: Path) -> Iterator[Lake]:
    shutil.copytree(empty_shared, tmp_path / "lake")
    catalog = server.create(f"lake_{next(_NUMBERS)}", template="empty")
    with Lake.open(Place(root=tmp_path / "lake", catalog=catalog)) as opened:
        yield opened
