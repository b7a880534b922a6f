"""How an error spells a value, and names that are not known, beside those that are and the nearest of them."""

import difflib
import json
from collections.abc import Iterable

_SHOWN = 15  # known names in an error


def spelled(value: object) -> str:
    """A value as a file would spell it, cut to a readable length."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def unknown(what: str, name: object, known: Iterable[str], *, like: str | None = None) -> str:
    """`unknown loss 'scs' (known: ns, sans, sce; did you mean 'sce'?)`.

    `like` is what the known one is to be near to, where this is not the name.
    """
    return f"unknown {what} {name!r} {instead(str(name) if like is None else like, known)}"


def instead(name: str, known: Iterable[str]) -> str:
    """`(known: ns, sans, sce; did you mean 'sce'?)`; of very many names the first are shown."""
    names = list(known)
    near = nearest(name, names)
    guess = f"; did you mean {near!r}?" if near else ""
    shown = [*names[:_SHOWN], "..."] if len(names) > _SHOWN else names or ["none"]
    return f"(known: {', '.join(shown)}{guess})"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, in whatever case; None where none is."""
    folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None
