"""What every section of the configuration is made of."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

Fraction01 = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    def over(self, common: Self) -> Self:
        """This section, with the keys that it leaves open as `common` has them."""
        return common.model_copy(update={key: getattr(self, key) for key in self.model_fields_set})
