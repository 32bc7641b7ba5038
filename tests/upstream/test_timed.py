"""How long the upstream takes is told of each call, without what it waits for before."""

import pytest

from cache_proxy.errors import UpstreamRefused
from cache_proxy.models import Endpoint
from cache_proxy.upstream.books import Load
from cache_proxy.upstream.lanes import Lanes, Rules
from tests.upstream.fakes import Scripted, Time, refused
from tests.upstream.test_lanes import at

pytestmark = pytest.mark.anyio


async def test_each_try_is_told_with_its_endpoint() -> None:
    told: list[tuple[str, float]] = []
    time = Time()
    way = Scripted(refused(503), b"answer", refused(400))
    lanes = Lanes(
        lambda _: way,
        Rules(),
        time,
        time.sleep,
        timed=lambda endpoint, seconds: told.append((endpoint, seconds)),
    )
    await lanes.send([at("one")], Load(Endpoint.RERANK, {}, 1, 1))
    with pytest.raises(UpstreamRefused):
        await lanes.send([at("one")], Load(Endpoint.EMBEDDINGS, {}, 1, 1))
    assert time.slept, "it waited between the tries"
    assert told == [("rerank", 0.0), ("rerank", 0.0), ("embeddings", 0.0)]
    await lanes.close()
