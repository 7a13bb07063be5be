"""What a model really is, beside its name: a timm name tells no sizes once settings replace them.

A configuration may name ``vit_base_patch16_224`` and set a width of 128. What is trained is 128 wide, whatever the name
says; so whoever shows a model shows these numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from medveil.config import assigned_keys, load_config
from medveil.errors import ConfigError
from models.config import ModelConfig

if TYPE_CHECKING:
    from models.sizes import Shape
    from models.vits import VisionTransformer

SIZES = ("width", "depth", "heads")


class HasModel(Protocol):
    """A configuration with a section for the model."""

    @property
    def model(self) -> ModelConfig:
        """The model."""


T = TypeVar("T", bound=HasModel)


def load_with_model(
    schema: type[T], file: Path, overrides: Sequence[str], *, values: dict[str, Any] | None = None
) -> T:
    """`medveil.config.load_config` of a file, refusing also what `refuse_foreign_sizes` does."""
    config = load_config(schema, file, overrides, values=values)
    named = [f"model.{name}" for name in _section(values, "model")]
    refuse_foreign_sizes(load_config(schema, file).model, config.model, [*overrides, *named], file=file.name)
    return config


def _section(values: dict[str, Any] | None, name: str) -> Mapping[str, Any]:
    found = (values or {}).get(name)
    return found if isinstance(found, Mapping) else {}


def refuse_foreign_sizes(before: ModelConfig, after: ModelConfig, overrides: Sequence[str], *, file: str) -> None:
    """Refuse a name given on the command line beside sizes that a file gives to another name.

    Parameters
    ----------
    before, after
        The model by the file alone, and with the command line's settings.
    overrides
        The settings of the command line.
    file
        The file, in words.

    Raises
    ------
    ConfigError
        The file's sizes would make of the named model another one. Nothing of timm's is looked up.
    """
    if after.name == before.name:
        return
    given = assigned_keys(overrides)
    left = [name for name in SIZES if getattr(after, name) is not None and f"model.{name}" not in given]
    if not left:
        return
    sizes = ", ".join(f"{name} {getattr(after, name)}" for name in left)
    nulls = " ".join(f"model.{name}=null" for name in left)
    raise ConfigError(
        f"'{after.name}' would be cut to {sizes}, which {file} sets beside '{before.name}'",
        where="model.name",
        cure=f"add {nulls} for it as timm has it, or sizes of your own",
    )


def described(model: VisionTransformer, config: ModelConfig) -> dict[str, Any]:
    """A model's name, sizes and number of parameters as plain data, with timm's own sizes of that name."""
    from models.sizes import shape_of  # noqa: PLC0415 - torch and timm, which the check above does without

    shape, named = shape_of(model), _shape_named(config.name)
    return {
        "name": config.name,
        **{name: getattr(shape, name) for name in SIZES},
        "patch": int(model.patch_embed.patch_size[0]),
        "parameters": shape.parameters,
        "named": {name: getattr(named, name) for name in SIZES},
    }


@functools.lru_cache(maxsize=64)
def _shape_named(name: str) -> Shape:
    """The sizes that timm has for a name: of a whole model, which is built once a process."""
    from models.sizes import shape_of, skeleton  # noqa: PLC0415

    return shape_of(skeleton(ModelConfig(name=name)))


def in_words(found: Mapping[str, Any]) -> str:
    """A description of `described` for people; what differs from the name's own sizes says so.

    Examples
    --------
    ``vit_tiny_patch16_224 with width 128 (timm: 192), depth 4 (timm: 12), 4 heads (timm: 3); patch 16, 0.83 M
    parameters``
    """
    named = found.get("named") or {}
    sizes = []
    for name in SIZES:
        text = f"{found[name]} heads" if name == "heads" else f"{name} {found[name]}"
        sizes.append(text if named.get(name, found[name]) == found[name] else f"{text} (timm: {named[name]})")
    told = (
        f"{found['name']} with {', '.join(sizes)}; patch {found['patch']}, {millions(found['parameters'])} parameters"
    )
    trained, size = found.get("trained"), found.get("bytes_a_round")
    if not isinstance(trained, int) or not isinstance(size, int):
        # Of a run of an earlier MedVeil, or of a model that no run trains.
        return told
    traffic = f"{size / 1e6:.3g} MB" if size >= 1e6 else f"{size / 1e3:.3g} kB"
    return f"{told}, {millions(trained)} trained; {traffic} each way a round and site"


def millions(count: int) -> str:
    """A number of parameters as people say it."""
    return f"{count / 1e6:.3g} M" if count >= 1e5 else f"{count:,}"
