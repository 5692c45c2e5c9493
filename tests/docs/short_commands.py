"""Changes of the documented commands and code with which they run in seconds."""

import re

SHORT = "--config.epochs=0.1 --config.warmup_epochs=0 --config.eval_batch_size=64"
SMALLER = {
    # Two steps; for a comparison, one variant with one seed.
    r"(-m train(?:\.compare)? .*)": rf"\1 {SHORT}",
    r"(-m train\.compare .*?)(?: --only=\S+)? --config.epochs": (
        r"\1 --only=add --config.seeds='(0,)' --config.epochs"
    ),
    # Addition compiles in half the time, and the first command covers AFF.
    r"(-m train .*(?:configs/(?:image|mask)_folder\.py|--config\.ema_decay).*)": (
        r"\1 --config.fusion=add"
    ),
    r"(configs/mask_folder\.py .*=)PATH\b": r"\1masks",
    r"([= ])PATH\b": r"\1images",
    # The weight files of the fixture are of small networks.
    r"(--model resnet50) (.*)": (
        r"\1 \2 --field base_channels=8 --field 'blocks_per_stage=(1, 1, 1, 1)'"
    ),
    r"--model (?:resnet50_v1d|cifar_resnet32 --field width=4)": "--model cifar_resnet8",
    r'create_model\("resnet50", (.*reference="pytorch")\)': (
        r'create_model("resnet50", \1, base_channels=8, blocks_per_stage=(1,) * 4, num_classes=10)'
    ),
    r"-m venv": "-m venv --without-pip",
    # A dataset that is prepared without a download.
    r'tfds\.builder\("cifar10"': 'tfds.builder("digits"',
}
"""Patterns in commands and code, and their replacements, which make them run in seconds."""

ONLY_PARSED = {
    "--config.fusion_fields.iterations=3": "compiles for long and then runs as the first command",
    "-m train.plan": "needs the compilers; test_compilers.py compiles for the same topologies",
    "-m train.evaluate_weights": "needs a download; test_saved_evaluation.py evaluates a file",
    "--extend": "needs a finished run; test_start_resuming.py extends one",
    "--config=configs/cifar10_resnet8.py": "needs a download",
    "--config=configs/imagenet_resnet50_v1d.py": "needs a download",
    "--config=configs/compare_folder.py": "needs a folder of images",
    "--num_processes=2": "needs a second machine",
    "--config=configs/cifar100_resnet32_coarse.py": "needs a download",
    "--config.dataset=fashion_mnist": "needs a download; test_contributing.py reads a small one",
    "--workdir=runs/parameter_norm": "test_contributing.py runs it on a changed copy",
    "--config.fusion=maximum": "needs the example of CONTRIBUTING",
    "--config.model=wide_stem_resnet8": "needs the example of CONTRIBUTING",
    "--config.optimizer=lion": "needs the example of CONTRIBUTING",
}
"""Parts of training commands that are parsed but not run, and the reason."""


def smaller(text):
    for pattern, replacement in SMALLER.items():
        text = re.sub(pattern, replacement, text)
    return text
