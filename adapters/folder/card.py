"""The model card of a folder: what the model was, what was removed, and how it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_HEAD = """\
---
library_name: transformers
{base}tags:
- pruned
- prunus
---

# {name}, pruned

{facts}
`plan.json` names every slot that was kept. The folder is {saved}.

```python
{code}
```
"""


def card(model: Any, saved: Any, facts: Sequence[str]) -> str:
    """The text of README.md; `facts` are lines about before and after."""
    source = str(getattr(model, "name_or_path", "") or "")
    kind = type(model).__name__
    is_hub_name = source.count("/") == 1 and not source.startswith((".", "/"))
    return _HEAD.format(
        base=f"base_model: {source}\n" if is_hub_name else "",
        name=source.rstrip("/").rpartition("/")[2] or kind,
        facts="".join(f"{line}\n" for line in [*facts, ""]) if facts else "",
        saved=saved,
        code="\n".join(_code(kind, saved.form)),
    )


def _code(kind: str, form: str) -> list[str]:
    lines = [f"from transformers import {kind}", "", f'model = {kind}.from_pretrained("path/to/this/folder")']
    return ["import prunus", *lines] if form == "shaped" else lines
