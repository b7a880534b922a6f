"""The options that only one model or loss has: the keyword-only arguments of its constructor."""

import inspect
import typing
from typing import Any

from kge.config import Value


def options(class_: type[Any]) -> dict[str, inspect.Parameter]:
    """The options of a class by name, with their annotations resolved."""
    constructor: Any = class_.__init__
    hints = typing.get_type_hints(constructor)
    parameters = inspect.signature(constructor).parameters.values()
    return {
        each.name: each.replace(annotation=hints[each.name])
        for each in parameters
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    }


def defaults(class_: type[Any]) -> dict[str, Value]:
    """What the options of a class are when nobody says otherwise."""
    every = options(class_).items()
    return {name: each.default for name, each in every if each.default is not inspect.Parameter.empty}
