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
    # How kernels start: "xavier", "he" or "msra_prelu"; "" is as in the network's reference.
    config.kernel_init = ""
    # File of weights to start from, as `aff_jax.save` and `aff-jax convert` write it; "" is none.
    # The head is trained anew where the file's answers for other classes.
    config.init_from = ""
    # What is not trained: how names of the network's submodules begin, as in ("stem", "stage1").
    config.freeze = ()
    # Whose formulas where the references disagree: "paper", "pytorch" or "mxnet".
    config.reference = "paper"

    # The data set, a name of the table in `train/data/sources/datasets.py`; "image_folder" and
    # "mask_folder" are your own:
    # configs/image_folder.py and configs/mask_folder.py describe their layout.
    config.dataset = "digits"
    # That folder of yours, or where TFDS keeps data; "" is TFDS's default, ~/tensorflow_datasets.
    config.data_dir = ""
    # The feature that holds the label, for data sets that have several; "" is the usual one.
    config.label_key = ""
    # Height and width that images of another size are brought to: the middle, after the shorter
    # side was resized to 256/224 of it, or for segmentation to it. 0 leaves them as they are, which
    # have to be of one size then.
    config.image_size = 0
    # 1 makes all images grey, 3 colour; 0 leaves them as they are, which have to be alike then.
    config.image_channels = 0
    # Training takes a random rectangle of each image, and resizes that, instead of the middle.
    config.random_resized_crop = False
    # Training examples of up to this many MiB, decoded, are kept on every device; 0 keeps none.
    config.device_cache_mib = 512
    # Processes that read and decode the training examples which are not; 0 does it in two threads.
    config.data_workers = 0
    # Training pads images by this many pixels of zeros and crops them back at random.
    config.crop_padding = 0
    # Training mirrors every second image.
    config.flip = False
    # AutoAugment's policy, "cifar10" or "imagenet", done before the crop; "" is none.
    config.autoaugment = ""
    # Brightness, contrast and saturation change by a factor of 1 - this to 1 + this; 0 is off.
    config.color_jitter = 0.0
    # Deviation of a shift along ImageNet's principal colours, of colour images only; 0 is off.
    config.pca_lighting = 0.0
    # Share of the images that have a rectangle replaced by random pixels.
    config.random_erasing = 0.0
    # Images are mixed with the weight lambda ~ Beta(alpha, alpha), one a batch; 0 is off.
    config.mixup_alpha = 0.0
    # As mixup, but a rectangle of 1 - lambda of the image is replaced; with both on, half each.
    config.cutmix_alpha = 0.0
    # Last epochs of the run in which nothing is mixed.
    config.mix_off_epochs = 0.0
    # Share of each label that is spread over all classes.
    config.label_smoothing = 0.0

    # Seed of parameters, order of the examples and augmentation.
    config.seed = 0
    # Examples of a training step, over all devices.
    config.batch_size = 128
    # Examples of an evaluation step, over all devices; rounded up to a multiple of them.
    config.eval_batch_size = 512
    # Passes over the training examples.
    config.epochs = 60.0

    # Learning rate at the end of warm-up.
    config.learning_rate = 0.1
    # Epochs of linear warm-up from zero.
    config.warmup_epochs = 1.0
    # Schedule after warm-up, a name of the table in `train/optim/schedules.py`: "cosine" and "poly"
    # fall to zero at the end, "constant" stays.
    config.schedule = "cosine"
    # Epochs at which it drops as well: "constant" with drops is what is called a step schedule.
    config.decay_epochs = ()
    # What it is multiplied by at each drop.
    config.decay_factor = 0.1
    # A name of the table in `train/optim/optimizers.py`: "sgd" (with Nesterov momentum), "adamw",
    # "lars" or "adagrad".
    config.optimizer = "sgd"
    # Momentum of "sgd" and "lars", and beta1 of "adamw".
    config.momentum = 0.9
    # Weight decay.
    config.weight_decay = 1e-4
    # What it acts on: "kernels", which leaves batch norms and biases alone, or "all".
    config.weight_decay_mask = "kernels"
    # Largest norm of the gradient over all parameters, to which longer ones are cut; 0 is no limit.
    config.clip_norm = 0.0
    # Whether batch norm sees the global batch or each device's own part of it.
    config.sync_batch_norm = True

    # How a step runs on all devices: "pmap" or "shard_map"; the numbers are the same.
    config.parallel = "pmap"
    # What the network computes in: "float32", "bfloat16" or "float16", whose loss is scaled.
    # Parameters, statistics, logits and the loss are float32 in any case.
    config.dtype = "float32"
    # Equal parts of each device's batch that are differentiated one after the other, to save
    # memory; batch norm sees each part by itself.
    config.accumulation = 1
    # Steps in a row whose gradient is not finite, and which are skipped, that end the run.
    config.max_skipped_steps = 10
    # Decay of the moving averages of weights and statistics, which are then what is evaluated:
    # 0.999, say; 0 keeps none.
    config.ema_decay = 0.0
    # Training batches over which the statistics of batch norm are computed anew before each
    # evaluation and saved with the checkpoint: 100, say; 0 keeps the moving ones. Worker processes
    # start anew for them.
    config.recalibration_batches = 0

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
    config.data_timeout_seconds = 600.0
    return config
