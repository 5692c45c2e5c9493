"""The default config, with a comment on every field. Other configs set only what differs."""

# ml_collections fixes the type of a field. `FieldReference` with `object` allows several types.
from ml_collections import ConfigDict, FieldReference

__all__ = ["SEGMENTATION_MODELS", "get_config"]

SEGMENTATION_MODELS = ("fpn_resnet20", "unet_resnet20")
"""Models that predict a class for each pixel, so that they need masks."""


def get_config() -> ConfigDict:
    config = ConfigDict()

    # Name of the network, one of `aff_jax.list_models()`.
    config.model = "cifar_resnet8"
    # Fields of this network, such as `width`. Not all networks have the same ones.
    config.model_fields = ConfigDict()
    # Name of the fusion at the network's skip connections, one of `aff_jax.list_fusions()`.
    config.fusion = "aff"
    # Fields of this fusion, such as `scales` and `gain`. Not all fusions have the same ones.
    config.fusion_fields = ConfigDict()
    # Initializer of kernels: "xavier", "he" or "msra_prelu"; "" is the default of the network.
    config.kernel_init = ""
    # File with initial weights, written by `aff_jax.save` or `aff-jax convert`; "" is none. If the
    # number of classes differs, the head is initialized at random.
    config.init_from = ""
    # Module that the weights of `init_from` are for, such as "backbone" of an FPN or U-Net, whose
    # weights come from a classification run. The rest is initialized at random. "" is the network.
    config.init_prefix = ""
    # Freezes modules whose names start with these prefixes, such as ("stem", "stage1").
    config.frozen_submodules = ()
    # Reference whose formulas the network follows: "paper", "pytorch" or "mxnet".
    config.reference = "paper"

    # Name of the dataset, from the table in `train/data/sources/datasets.py`. "image_folder" and
    # "mask_folder" read your own images; configs/image_folder.py and configs/mask_folder.py
    # describe the layout of their folders.
    config.dataset = "digits"
    # The folder of your images, or the data directory of TFDS; "" is TFDS's default,
    # ~/tensorflow_datasets.
    config.data_dir = ""
    # Feature that is the label, for datasets with several; "" is the dataset's default.
    config.label_key = ""
    # Value of masks that is not trained on and not evaluated, such as 11, or several, such as
    # (0, 11); 255 always is one. For folders of masks only.
    config.ignored_values = FieldReference((), field_type=object)
    # Size of images in pixels: a number for squares, or (height, width). 0 keeps the size of the
    # images, which must be the same for all.
    config.image_size = FieldReference(0, field_type=object)
    # How images of another size are resized. "crop": until they cover 256/224 times `image_size`
    # (for segmentation `image_size`), and the center is cropped. "pad": whole, and padded with
    # black. "stretch": whole, with another aspect ratio.
    config.resize = "crop"
    # 1 converts images to gray, 3 to color. 0 keeps their channels, which must be the same for all.
    config.image_channels = 0
    # In training, crop a random rectangle of each image and resize it, not the central square.
    config.random_resized_crop = False
    # Smallest and largest share of the image's area in this random crop.
    config.crop_scale = (0.08, 1.0)
    # Training data up to this size in MiB, decoded, is cached on every device; 0 caches none.
    config.device_cache_mib = 512
    # Number of processes that read data that is not cached on the device; 0 uses two threads.
    config.data_workers = 0
    # In training, pad images with this many zeros on each side and crop a random window.
    config.crop_padding = 0
    # In training, flip each image horizontally with probability 1/2.
    config.flip = False
    # AutoAugment policy, "cifar10" or "imagenet", applied before the padded crop; "" is none.
    config.autoaugment = ""
    # Strength s of color jitter: brightness, contrast and saturation are multiplied by a factor in
    # 1 - s .. 1 + s; 0 is off.
    config.color_jitter = 0.0
    # Standard deviation of PCA lighting, a shift along the principal components of ImageNet's
    # colors, for color images only; 0 is off.
    config.pca_lighting = 0.0
    # Probability of random erasing, which replaces a rectangle of an image with random pixels.
    config.random_erasing = 0.0
    # Parameter of mixup: pairs of images are averaged with a weight from Beta(alpha, alpha), one
    # per batch; 0 is off.
    config.mixup_alpha = 0.0
    # Parameter of CutMix: a rectangle is replaced instead. If mixup is on too, each batch uses one
    # of the two with probability 1/2.
    config.cutmix_alpha = 0.0
    # Number of epochs at the end of the run without mixup and CutMix.
    config.mix_off_epochs = 0.0
    # Label smoothing: the fraction of each label that is distributed over all classes.
    config.label_smoothing = 0.0
    # Loss of training: "cross_entropy", "focal", which gives less weight to labels that are
    # predicted with confidence, or "cross_entropy_dice" for segmentation, the sum of both losses.
    config.loss = "cross_entropy"
    # Weights of the classes in the loss: "balanced" gives all classes the same total weight; "" is
    # none.
    config.class_weights = ""

    # Seed of the initial parameters, the order of the examples, and the augmentation.
    config.seed = 0
    # Number of examples per training step, over all devices.
    config.batch_size = 128
    # Number of examples per evaluation step, over all devices; rounded up to a multiple of the
    # number of devices.
    config.eval_batch_size = 512
    # Number of epochs.
    config.epochs = 60.0

    # Learning rate after warmup.
    config.learning_rate = 0.1
    # Number of epochs of linear warmup from zero.
    config.warmup_epochs = 1.0
    # Learning rate schedule after warmup, from the table in `train/optim/schedules.py`: "cosine"
    # and "poly" decay to zero, "constant" does not decay.
    config.schedule = "cosine"
    # Epochs at which the learning rate is also multiplied by `decay_factor`. Use it with "constant"
    # for a step schedule.
    config.decay_epochs = ()
    # Factor of the learning rate at each of `decay_epochs`.
    config.decay_factor = 0.1
    # Optimizer, from the table in `train/optim/optimizers.py`: "sgd" (with Nesterov momentum),
    # "adamw", "lars" or "adagrad".
    config.optimizer = "sgd"
    # Momentum of "sgd" and "lars", and beta1 of "adamw".
    config.momentum = 0.9
    # Weight decay.
    config.weight_decay = 1e-4
    # Parameters with weight decay: "kernels", which excludes batch normalization and biases, or
    # "all".
    config.weight_decay_mask = "kernels"
    # Clips the gradient to this global norm; 0 is off.
    config.clip_norm = 0.0
    # Whether batch normalization uses the statistics of the global batch, or of each device's
    # batch.
    config.sync_batch_norm = True

    # How a step runs on all devices: "pmap" or "shard_map". Both compute the same.
    config.parallel = "pmap"
    # Dtype of the network's computation: "float32", "bfloat16" or "float16" (with loss scaling).
    # Parameters, statistics, logits and the loss are always float32.
    config.dtype = "float32"
    # Number of microbatches of each device's batch, whose gradients are accumulated to save memory.
    # Batch normalization uses the statistics of each microbatch.
    config.accumulation = 1
    # Steps with a non-finite gradient are skipped. This many in a row end the run.
    config.max_skipped_steps = 10
    # Decay of the moving averages of weights and statistics, such as 0.999. Evaluation then uses
    # the averages. 0 is off.
    config.ema_decay = 0.0
    # Number of training batches, such as 100, over which the statistics of batch normalization are
    # recomputed before each evaluation. They are saved with the checkpoint, and worker processes
    # are restarted. 0 uses the running statistics.
    config.recalibration_batches = 0

    # Number of epochs between evaluations. A checkpoint is saved after each evaluation. The last
    # step is always evaluated.
    config.eval_every_epochs = 10.0
    # Number of the newest checkpoints that are kept. The best one is kept as well.
    config.keep_checkpoints = 2
    # Minutes after which a checkpoint is saved between evaluations; 0 is off. The time is checked
    # when training metrics are logged.
    config.checkpoint_every_minutes = 10.0
    # Number of steps between logged training metrics.
    config.log_every_steps = 50
    # Maximum time to wait for the next batch in seconds. After it the run ends with an error.
    config.data_timeout_seconds = 600.0
    return config
