"""Frozen settings models: the base of every component of an experiment."""

from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Component(BaseModel):
    """A frozen pydantic model: its fields are settings, its method is the behaviour (or builds it).

    Each field carries a one-line ``description``, from which help, the commented experiment file and the
    documentation are made. A choice between components is a union of such models discriminated by a literal
    field ``type``. Unknown keys are refused. TOML knows no null, so ``"none"`` stands for None where a field
    admits it. Subclasses import no torch at module level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _none_by_name(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        fields = cls.model_fields
        return {
            key: None if value == "none" and key in fields and NoneType in get_args(fields[key].annotation) else value
            for key, value in table.items()
        }


def component_types(annotation: Any) -> list[type[BaseModel]]:
    """The settings models that an annotation admits, through unions, tuples and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in component_types(part)]


def type_tag(model: type[BaseModel]) -> str | None:
    """The word that chooses a model in a union, if it is made for one."""
    return model.model_fields["type"].default if "type" in model.model_fields else None
