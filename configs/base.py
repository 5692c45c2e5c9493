"""Every field there is, each explained once; the other configs hold only what differs."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()

    # The network: `python -c "import aff_jax; print(aff_jax.list_models())"`.
    config.model = "cifar_resnet8"
    # Further fields of that network, and of it only.
    config.model_fields = ConfigDict()
    # How its skips are fused: `aff_jax.list_fusions()`.
    config.fusion = "aff"
    # Further fields of that fusion, and of it only: `scales`, `gain` ...
    config.fusion_fields = ConfigDict()
    # Whose formulas where the references disagree: "paper", "pytorch" or "mxnet".
    config.reference = "paper"

    # The data set, one of the table in `train/data/source.py`.
    config.dataset = "digits"
    # Where TFDS keeps data; "" is TFDS's default, ~/tensorflow_datasets.
    config.data_dir = ""
    # The feature that holds the label, for data sets that have several.
    config.label_key = "label"
    # Training pads images by this many pixels of zeros and crops them back at random.
    config.crop_padding = 0
    # Training mirrors every second image.
    config.flip = False

    # Seed of parameters, order of the examples and augmentation.
    config.seed = 0
    # Examples of a training step, over all devices.
    config.batch_size = 128
    # Examples of an evaluation step, over all devices; rounded up to a multiple of them.
    config.eval_batch_size = 512
    # Passes over the training examples.
    config.epochs = 60.0

    # Learning rate at the end of warm-up, from where it falls to zero.
    config.learning_rate = 0.1
    # Epochs of linear warm-up from zero.
    config.warmup_epochs = 1.0
    # How it falls, of the table in `train/optimizer.py`: "cosine" or "poly".
    config.schedule = "cosine"
    # Of the table in `train/optimizer.py`: "sgd" (with Nesterov momentum) or "adagrad".
    config.optimizer = "sgd"
    # Momentum of "sgd".
    config.momentum = 0.9
    # Weight decay of kernels; batch norm and biases are left alone.
    config.weight_decay = 1e-4
    # Whether batch norm sees the global batch or each device's own part of it.
    config.sync_batch_norm = True

    # Epochs from one evaluation and checkpoint to the next; the last step has both in any case.
    config.eval_every_epochs = 10.0
    # Newest checkpoints to keep, besides the best one.
    config.keep_checkpoints = 2
    # Minutes after which a checkpoint is saved between two evaluations; 0 saves with them only.
    # Looked at with each line of training metrics.
    config.checkpoint_every_minutes = 10.0
    # Steps from one line of training metrics to the next.
    config.log_every_steps = 50
    # Seconds within which the next batch has to come; after them the run ends with an error.
    config.feed_timeout_seconds = 600.0
    return config
