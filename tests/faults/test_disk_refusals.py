"""What is set up wrongly is refused at the start, in words that name the remedy, and never in a crash loop."""

import sys
from pathlib import Path

import pytest

from tests.faults.servers import started
from tests.mounts import bounded_by_permissions

NOWHERE = "http://127.0.0.1:9"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="permission bits bind root through setpriv alone")


def test_a_folder_that_may_not_be_written_is_refused_with_the_remedy(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir(mode=0o500)
    environ = {"CACHE_PROXY_DIR": str(store)}
    here = started(tmp_path / "home", NOWHERE, {}, workers=2, environ=environ, prefix=bounded_by_permissions())
    with here as server:
        assert server.process.wait(60) == 2
        told = server.told()
    assert f"the disk store can not be in {store}: Permission denied" in told
    assert "CACHE_PROXY_DIR" in told
    assert "Traceback" not in told
    assert "Started" not in told, "no worker was started"
    assert list(store.iterdir()) == []
