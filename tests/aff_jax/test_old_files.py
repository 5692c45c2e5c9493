"""Descriptions of earlier versions. test_serialization.py loads a whole file of one."""

import numpy as np

from aff_jax.old_files import translate_old_file


def test_old_names_are_translated():
    fields = {"features": True, "blocks_per_stage": 2}
    arrays = {"params/norm/scale": np.ones(1), "params/stem/norm/scale": np.zeros(1)}
    description, renamed = translate_old_file({"class": "CIFARResNet", "fields": fields}, arrays)
    assert description["fields"] == {
        "features_only": True,
        "blocks_per_stage": {"tuple": [2, 2, 2]},
    }
    assert list(renamed) == ["params/final_norm/scale", "params/stem/norm/scale"]


def test_new_descriptions_do_not_change():
    description = {"class": "CIFARResNet", "fields": {"features_only": False}}
    arrays = {"params/norm/scale": np.ones(1)}
    assert translate_old_file(description, arrays) == (description, arrays)
