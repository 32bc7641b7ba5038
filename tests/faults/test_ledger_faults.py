"""The ledger's disk fills up: hits are served, nothing is spent, and it goes on when there is room again."""

from pathlib import Path

import pytest

from cache_proxy.ledger.database import Database
from tests.faults.course import ground
from tests.faults.load import Client
from tests.faults.questions import embed
from tests.faults.servers import until
from tests.ledger.money import sums
from tests.mounts import FILLER, fill, tmpfs

OK, UNAVAILABLE = 200, 503


@pytest.mark.slow
def test_a_full_disk_of_the_ledger_costs_misses_and_no_money(tmp_path: Path) -> None:
    with ground(tmp_path, seconds=1.0, workers=1, entries=0) as here, tmpfs(tmp_path / "disk", "8m") as disk:
        own = {"cache_proxy_settings": {"ledger_dir": str(disk / "ledger")}}
        with here.servers(own) as (server,):
            client = Client(server.url)
            assert client.ask(embed("held")).status == OK
            fill(disk)
            assert client.ask(embed("held")).hit
            until(lambda: client.ask(embed("new")).status == UNAVAILABLE)
            assert client.ask(embed("held")).hit
            spent = here.standin.billed_tokens
            assert client.ask(embed("newer")).status == UNAVAILABLE
            assert here.standin.billed_tokens == spent
            (disk / FILLER).unlink()
            until(lambda: client.ask(embed("new")).status == OK)
            client.close()
        with here.servers(own):
            fill(disk)  # it starts on a full disk as well
        database = Database.in_folder(disk / "ledger")
        (disk / FILLER).unlink()
        total = sums(database)[""]
        database.close()
    assert (total["tokens_billed"], total["tokens_unsettled"]) == (here.standin.billed_tokens, 0)
