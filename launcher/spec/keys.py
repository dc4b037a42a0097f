"""What every mapping of the schema is made of."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from launcher.spec.values import UnfitError


def default(value: Any, prose: str, *examples: str) -> Any:
    """A key with a default, written as a user would write it."""
    return Field(value, description=prose, validate_default=True, examples=list(examples) or None)


def absent(prose: str, *examples: str) -> Any:
    """A key that may be missing: whether it was given is told by `model_fields_set`, never by its value."""
    return Field(None, description=prose, examples=list(examples) or None)


def needed(prose: str, *examples: str) -> Any:
    return Field(description=prose, examples=list(examples) or None)


class Keys(BaseModel):
    """A mapping of known keys. A key with nothing after it counts as not given."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    shape: ClassVar[str] = "a mapping: KEY: VALUE"

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        data = cls.long_form(data)
        if not isinstance(data, dict):
            raise UnfitError("not a mapping", cls.shape)
        return {key: value for key, value in data.items() if value is not None}

    @classmethod
    def long_form(cls, data: Any) -> Any:
        """The mapping that a short form stands for; anything else as it is."""
        return data

    @property
    def given(self) -> dict[str, Any]:
        """What stood in the file, without defaults."""
        return {key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set}
