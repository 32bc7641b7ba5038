"""What every section of the file is made of."""

from decimal import Decimal
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Tries = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Cost = Annotated[Decimal, Field(ge=0)]
Unset = Annotated[float, Field(ge=0)]
"""A number of which 0 means, as at LiteLLM, that nothing is set."""


def _text(value: Any) -> Any:
    return str(value) if type(value) is int else value


Word = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int), Field(min_length=1)]
"""A name, which YAML may have taken for a number."""


class Section(BaseModel):
    """A section: frozen, and lenient about types as YAML and the environment are (``"6379"`` is a port)."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)

    NULLS: ClassVar[frozenset[str]] = frozenset()
    """Keys whose null is a value of its own. Any other that is null counts as left out."""


class RequestParams(Section):
    """A section whose other keys are default parameters of the request."""

    model_config = ConfigDict(extra="allow")
