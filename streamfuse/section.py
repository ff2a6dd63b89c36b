"""What every section of the configuration is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction01 = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def given(value: Any) -> Any:
    """A section as the data that it was made of, so that keys that were left open are not there."""
    return value.model_dump(exclude_unset=True) if isinstance(value, Section) else value


def merged(common: Any, own: Any) -> Any:
    """`own`, with the keys that it leaves open as `common` has them, at every depth."""
    common, own = given(common), given(own)
    if not isinstance(common, Mapping) or not isinstance(own, Mapping):
        return own
    return {**common, **{key: merged(common.get(key), value) for key, value in own.items()}}
