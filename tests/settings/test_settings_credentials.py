"""``credential_list``: said once, used by several deployments."""

from typing import Any

import pytest

from cache_proxy.errors import ConfigError
from cache_proxy.settings import Settings, parse

ENVIRON = {"HOME": "/home/someone", "JINA_AI_API_KEY": "jina_env", "TEAM_KEY": "jina_planted_team"}


def credentials(*listed: Any, models: list[dict[str, Any]], environ: dict[str, str] | None = None) -> Settings:
    entries = [{"model_name": f"m{at}", "litellm_params": params} for at, params in enumerate(models)]
    return parse({"credential_list": list(listed), "model_list": entries}, ENVIRON | (environ or {}))


def named(name: Any = "team", **values: Any) -> dict[str, Any]:
    return {"credential_name": name, "credential_values": values, "credential_info": {"description": "for people"}}


def refused(*listed: Any, models: list[dict[str, Any]]) -> str:
    with pytest.raises(ConfigError) as error:
        credentials(*listed, models=models)
    assert "planted" not in str(error.value)
    return str(error.value)


JINA = {"model": "jina_ai/jina-embeddings-v3", "litellm_credential_name": "team"}


def test_what_a_deployment_does_not_say_is_taken_from_its_credential() -> None:
    shared = named(api_key="os.environ/TEAM_KEY", api_base="https://jina.example/v1")
    settings = credentials(shared, models=[JINA, {**JINA, "api_key": "jina_own"}])
    first, second = settings.deployments
    assert first.api_key is not None
    assert second.api_key is not None
    assert (first.api_key.get_secret_value(), first.api_base) == ("jina_planted_team", "https://jina.example/v1")
    assert (second.api_key.get_secret_value(), second.api_base) == ("jina_own", "https://jina.example/v1")
    assert settings.warnings == ()
    assert "planted" not in repr(settings)


def test_a_base_url_of_a_credential_makes_a_server_of_ones_own_reachable() -> None:
    (found,) = credentials(
        named(api_base="http://infinity:7997"), models=[{"model": "infinity/bge", "litellm_credential_name": "team"}]
    ).deployments
    assert (found.provider, found.api_base) == ("infinity", "http://infinity:7997")


def test_a_name_that_is_a_number_or_comes_from_the_environment_is_a_name() -> None:
    for listed, asked in ((7, "7"), ("os.environ/WHO", "team"), ("team", "os.environ/WHO")):
        model = {**JINA, "litellm_credential_name": asked}
        (found,) = credentials(named(listed, api_key="jina_c"), models=[model], environ={"WHO": "team"}).deployments
        assert found.api_key is not None
        assert found.api_key.get_secret_value() == "jina_c"


def test_a_name_that_nobody_has_refuses_the_start() -> None:
    assert refused(models=[JINA]).startswith("model_list[0].litellm_params.litellm_credential_name")
    assert "credential_list" in refused(named("other", api_key="planted"), models=[JINA])


def test_a_deployment_that_is_not_served_may_name_what_it_likes() -> None:
    azure = {"model": "azure/ada", "litellm_credential_name": "kept in LiteLLM's database"}
    assert credentials(models=[azure, {"model": "jina_ai/x"}]).warnings == (
        "model_list: m0 can not be served here and is skipped",
    )


def test_texts_never_go_to_jina_because_a_credentials_address_is_missing() -> None:
    message = refused(named(api_base="os.environ/NO_SUCH"), models=[JINA])
    assert message.startswith("model_list[0].litellm_params.api_base")


@pytest.mark.parametrize(
    ("listed", "where"),
    [
        ({"team": {"api_key": "planted"}}, "credential_list: expected a list"),
        ([{"credential_values": {"api_key": "planted"}}], "credential_list[0].credential_name is missing"),
        ([{"credential_name": "team", "credential_values": "planted"}], "credential_list[0].credential_values"),
        (["planted"], "credential_list[0]"),
    ],
)
def test_a_list_that_can_not_be_read_names_its_place(listed: object, where: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse({"credential_list": listed, "model_list": []}, ENVIRON)
    assert str(error.value).startswith(where)
    assert "planted" not in str(error.value)


def test_what_else_a_credential_holds_is_noted_by_name() -> None:
    settings = credentials({**named(api_key="k", api_version="1"), "display_name": "planted"}, models=[JINA])
    assert settings.warnings == (
        "credential_list[].display_name is not acted on here",
        "model_list[].litellm_params.api_version is not acted on here: the API it is for is not spoken here",
    )
