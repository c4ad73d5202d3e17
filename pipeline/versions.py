"""Files of ours that another version wrote, or that are damaged: told apart, in one line, with what to do."""

from __future__ import annotations

from pydantic import ValidationError

GO_ON = "go on with the version that began the run, or use another --output"


def unreadable(name: str, error: ValidationError) -> str:
    """Why the file `name` cannot be read, by the first fault that pydantic found."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    if where == "version":
        return f"{name} is of format {fault['input']!r:.40}, which this version does not read: {GO_ON}"
    if fault["type"] == "extra_forbidden":
        return f"{name} has the key {where!r:.80}, which this version does not know: {GO_ON}"
    return f"{name} is damaged: {f'{where}: ' if where else ''}{fault['msg']}"
