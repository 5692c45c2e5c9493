"""Translate model files that earlier versions of this library wrote."""

import re
from typing import Any

import numpy as np

__all__ = ["translate_old_file"]


def translate_old_file(
    description: dict[str, Any], arrays: dict[str, np.ndarray]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Translate a host that was saved before its field `features` became `features_only`.

    Two other things changed at the same time. `blocks_per_stage` of the hosts for small images was
    one integer for all three stages, and the final norm of `CIFARResNet` and `InceptionNet` was
    named `norm`. Other descriptions and arrays are returned unchanged.

    Args:
        description: Description of the model in the file.
        arrays: Arrays by name.

    Returns:
        The translated description and arrays.
    """
    if "features" not in description["fields"]:
        return description, arrays
    fields = dict(description["fields"])
    fields["features_only"] = fields.pop("features")
    if isinstance(fields["blocks_per_stage"], int):
        fields["blocks_per_stage"] = {"tuple": [fields["blocks_per_stage"]] * 3}
    if description["class"] in ("CIFARResNet", "InceptionNet"):
        arrays = {
            re.sub(r"^(params|batch_stats)/norm/", r"\1/final_norm/", name): array
            for name, array in arrays.items()
        }
    return {**description, "fields": fields}, arrays
