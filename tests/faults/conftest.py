"""One zygote for all tests of a session, started when the first one needs it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from zygote import Zygote

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes are forked, watched and killed here, which is not the same elsewhere."""
    for item in items:
        if HERE in item.path.parents and sys.platform != "linux":
            item.add_marker(pytest.mark.skip(reason="kills processes by Linux's means"))


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("zygote"))
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder whose cache serves all tests of this module."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BALANCEGAN_CACHE_DIR", str(folder / "cache"))
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        yield folder
