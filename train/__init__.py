"""The training application: `python -m train --config=configs/digits.py --workdir=runs/digits`."""
