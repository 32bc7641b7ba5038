"""The error tree is the one drawn in its docstring, and no error shows what it must not."""

import inspect
import re

from cache_proxy import errors
from cache_proxy.errors import CacheProxyError, RequestError, UpstreamLost, UpstreamNonsense, UpstreamRefused


def drawn() -> dict[str, str]:
    """Each class in the drawing, and the one it hangs from."""
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^ {4}([ │├└─]*)([A-Z]\w+)(\s|$)", line)
        if found is None:
            continue
        depth, name = len(found[1]), found[2]
        path = [(column, above) for column, above in path if column < depth]
        parents[name] = path[-1][1] if path else "Exception"
        path.append((depth, name))
    return parents


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    built = {
        name: cls.__bases__[0].__name__
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__ and issubclass(cls, Exception)
    }
    assert drawn() == built
    assert len(built) > 9


def test_every_error_of_ours_is_caught_by_the_root() -> None:
    for name in drawn():
        assert issubclass(getattr(errors, name), CacheProxyError)


def test_a_refusal_hides_its_body_but_keeps_the_rest() -> None:
    refusal = UpstreamRefused(429, b"Zq7", content_type="text/plain", retry_after=2.0)
    hidden = refusal.without_body()
    assert (hidden.status, hidden.body, hidden.content_type, hidden.retry_after) == (429, b"", "text/plain", 2.0)
    assert "Zq7" not in str(refusal)


def test_it_is_known_which_failures_may_have_been_billed() -> None:
    billed = {status for status in range(300, 600) if UpstreamRefused(status, b"").outcome_unknown}
    # 520 and 524 are what Cloudflare, before Jina, makes of a 502 and a 504.
    assert billed == {500, 502, 504, 520, 524}
    assert UpstreamNonsense("x").outcome_unknown
    assert UpstreamLost("x", outcome_unknown=True).outcome_unknown
    assert not UpstreamLost("x", outcome_unknown=False).outcome_unknown
    assert not errors.UpstreamBusy("x", retry_after=1.0).outcome_unknown


def test_a_request_error_says_which_field_and_why() -> None:
    error = RequestError("`a` is wrong.", param="a", code="wrong_type")
    assert (str(error), error.param, error.code, error.malformed) == ("`a` is wrong.", "a", "wrong_type", False)
