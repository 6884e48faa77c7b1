"""Help, choices and bounds of options, from the fields of the command's configuration.

The configuration is imported when a command's own help is asked for or its flags are read, not for
`dsrface --help`: building all the models takes longer than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from typer.core import TyperCommand


@dataclass(frozen=True)
class Text:
    """What an option says about itself.

    Args:
        help: Meaning and bounds.
        choices: The texts it takes, with bars between them; empty when it takes others.
    """

    help: str
    choices: str


def texts_of(schema: type[Any]) -> dict[str, Text]:
    """Return the texts of every plain key of a configuration."""
    from dsrface.config.describe import bounds_of, choices_of

    texts = {}
    for name, field in schema.model_fields.items():
        bounds = bounds_of(field)
        meaning = field.description or ""
        help = f"{meaning.removesuffix('.')} ({bounds})." if bounds and meaning else meaning
        texts[name] = Text(help, "|".join(choices_of(field)))
    return texts


class ConfiguredCommand(TyperCommand):
    """A command whose options without a help text of their own take that of the field of their name."""

    schema: ClassVar[Callable[[], type[Any]]]

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, described."""
        texts: dict[str, Text] | None = None
        for option in self.params:
            if getattr(option, "help", None):
                continue
            if texts is None:
                texts = texts_of(type(self).schema())
            text = texts.get(str(option.name))
            if text is not None:
                option.help = text.help  # type: ignore[attr-defined]
                if text.choices and option.metavar is None:
                    option.metavar = text.choices
        return super().get_params(ctx)
