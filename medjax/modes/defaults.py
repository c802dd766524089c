"""Every key of a config with its default; an experiment changes what makes it that experiment."""

from typing import Any, TypeAlias

from ml_collections import ConfigDict, config_dict

Config: TypeAlias = Any  # a ConfigDict, whose attributes no type checker can follow


def defaults(name: str) -> Config:
    """The complete, locked config of a run named `name`; keys can be overridden, not added."""
    config = ConfigDict()
    config.name = name
    config.mode = "train"  # what `launch.py` does without --mode
    config.seed = 0
    config.seeds = 1  # so many runs from `seed` on, each in a folder of its own

    config.data = data = ConfigDict()
    data.root = config_dict.placeholder(str)  # the folder of the data set
    data.layout = "auto"  # nnunet, msd, brats, acdc, drive, chase, plain
    data.channels = ()  # which channels, in which order; () = those of the layout
    data.convention = ""  # label convention by name, or "background,liver,tumour"
    data.spacing = ()  # mm along x, y, z (RAS+), where the files lost theirs
    data.cases = 0  # use only so many cases (0 = all): for a quick look
    data.folds = 5
    data.fold = 0  # this fold is the test set; -1: all in turn, each in a folder of its own
    data.validation = 0.1  # share of the other patients that validates
    data.train_cases = 0  # of the remaining cases so many train with labels (0 = all)
    data.split = config_dict.placeholder(str)  # your own split.json, or nnU-Net's splits_final.json
    data.cache = ""  # folder of prepared cases; "" = one per user

    config.synth = synth = ConfigDict()  # synthetic patients, made where data.root is unset
    synth.cases = 0  # 0: the experiment needs data.root
    synth.share = 0.0  # of the training patches: from synthetic patients beside the training cases
    synth.pool = 0  # so many such patients are made before training; 0: a new one each time
    synth.reuse = 16  # patches of a patient that is made while training
    synth.spacing = 2.0  # mm
    synth.fields = (1.5, 3.0)  # tesla: one of them for each patient
    synth.contrasts = ("T1", "T1ce", "T2", "FLAIR")  # also PD, bSSFP
    synth.growth = "two_species"  # a tumour that starves inside; one_species; plaques: sclerosis
    synth.style = "physics"  # or random contrasts, as SynthSeg's
    synth.faults = 0.1  # chance of motion, ghosts, spikes or ringing in an image
    synth.slices = "any"  # plane of thick slices: axial, coronal, sagittal, or any of them
    synth.label_maps = config_dict.placeholder(str)  # folder of anatomies; unset: MNI152
    synth.table = "auto"  # ids of the label maps: freesurfer, brainweb, brainweb20
    synth.head = False  # keep what lies around the brain
    synth.translate = config_dict.placeholder(str)  # a trained CycleGAN's work folder: it makes its
    synth.translated = 1.0  # target contrast for this share of the patients beside the cases
    synth.beside = config_dict.placeholder(str)  # synthesize: a real data set to compare with

    config.phantom = phantom = ConfigDict()  # prostates, made where data.root is unset
    phantom.train = 0  # cases; 0: none
    phantom.validation = 20
    phantom.test = 100
    phantom.missing = 0.0  # share of the lesions that nobody drew, of who trains and validates

    config.plan = plan = ConfigDict()  # what is unset follows the rules of data/plan.py
    plan.memory_gb = 4.0  # of one training step
    plan.width = 32  # channels of the first stage, doubled per stage
    plan.stages = 6  # at most
    plan.spacing = ()  # mm along d, h, w
    plan.patch = ()  # voxels along d, h, w
    plan.batch = 0

    config.model = model = ConfigDict()
    model.trunk = "unet"  # resnet50: classifies alone; plan.width=64 and plan.stages=6 are its own
    model.block = "plain"  # plain, residual, hybrid
    model.attention = "none"  # none, sca
    model.norm = "instance"  # instance, group
    model.act = "leaky_relu"
    model.deep_supervision = False
    model.dropout = 0.0  # of whole channels of the bottleneck

    config.tasks = tasks = ConfigDict()
    tasks.learn = ("segmentation",)  # also classification (of cases), detection (of objects)
    tasks.objects = ""  # detection: the class or region whose parts are the objects
    tasks.detection_level = 1  # of the decoder that detection reads: 0 is the grid of the patch
    tasks.rule = "static"  # uncertainty, famo, dwa, gradnorm: weights of tasks that are learned
    tasks.weights = {"segmentation": 1.0, "classification": 1.0, "detection": 1.0}  # static
    tasks.scale = {"segmentation": 1.0, "classification": 1.0, "detection": 1.0}  # of the losses
    tasks.period = 50  # dwa: steps whose mean loss is compared with that of as many before

    config.augment = augment = ConfigDict()
    augment.strength = 1.0  # factor of all probabilities; 0 = flips alone
    augment.flips = True
    augment.rotation = config_dict.placeholder(float)  # degrees; unset: 30, in planes 180 or 15
    augment.scale = (0.7, 1.4)
    augment.shear = 0.0
    augment.elastic = ()  # (amplitude mm, control spacing mm)
    augment.scanner = 0.0  # probability of an MR scanner's fault in a channel

    config.train = train = ConfigDict()
    train.paradigm = "supervised"  # mean_teacher, ua_mt, cps, unimatch, bcp; masked; cyclegan
    train.start_from = config_dict.placeholder(str)  # a work folder: start with its trained weights
    train.steps = 2000
    train.minutes = 0.0  # instead of steps: as many as fit, compilation and validation included
    train.optimizer = "adamw"  # adamw, sgd
    train.learning_rate = 1e-3
    train.schedule = "cosine"  # cosine, poly, constant, late_linear
    train.warmup = 20  # steps
    train.weight_decay = 1e-4
    train.momentum = 0.99  # of sgd
    train.beta1 = 0.9  # of adamw
    train.clip = 12.0  # global norm of the gradient; 0 = free
    train.ema = True  # judge the running mean of the weights
    train.accumulate = 1  # parts of the batch that run in turn
    train.batch_dice = False
    train.foreground = 1 / 3  # share of the batch drawn around labelled voxels
    train.precision = "auto"  # auto (bfloat16 on accelerators), float32, bfloat16, int8
    train.devices = 0  # 0 = all; on CPU as many cores as divide the batch
    train.space = 1  # of them share each patch, for patches too large for one
    train.workers = 0  # loader processes; 0 = threads
    train.validations = 10  # over the run; a checkpoint each time
    train.validation_batches = 8
    train.log_every = 10
    train.tensorboard = False  # through clu; tensorflow takes some seconds and 0.6 GB

    config.sweep = sweep = ConfigDict()  # --mode sweep, over the experiment's get_sweep()
    sweep.trials = 20  # a grid has as many as it has points
    sweep.search = "tpe"  # tpe (Optuna), random, grid
    sweep.scheduler = "asha"  # stops the worse two thirds at each rung; none
    sweep.grace = 0.25  # share of its validations that each trial gets
    sweep.metric = "validation_dice"  # of metrics.jsonl, to be large
    sweep.cpus = 1.0  # of each trial
    sweep.gpus = 0.0  # 0.5: two trials share one

    config.prune = prune = ConfigDict()  # of the network of train.start_from, before training
    prune.ratio = 0.0  # share of its channels that goes; 0: none
    prune.scope = "family"  # of each family of layers that hang together; global: of all
    prune.score = "taylor"  # what the loss feels least goes; magnitude: the smallest; random
    prune.multiple = 8  # what is left of a layer is rounded up to so many channels
    prune.exclude = ()  # patterns of parameters that stay whole
    prune.shares = ()  # (pattern, share) of those that lose another share than `ratio`
    prune.rounds = 1  # runs over which the share rises to `ratio`, each of a part of the steps
    prune.distill = 1.0  # weight of what the whole network says, beside the labels; 0: labels alone

    config.semi = semi = ConfigDict()  # of the paradigms that learn from cases without labels too
    semi.unlabelled = 1  # patches without a label for each with one
    semi.weight = 1.0  # factor of what each method counts for them (modes/semi.py)
    semi.ramp = 0.4  # share of the run over which their weight rises: mean_teacher, ua_mt, cps
    semi.noise = 0.1  # deviation, on what a teacher sees
    semi.passes = 8  # ua_mt: answers of the teacher, to see where it is unsure
    semi.confidence = 0.95  # unimatch: probability from which an answer counts
    semi.tearing = 0.5  # unimatch: share of the features' channels that are dropped
    semi.pretrain = 0.2  # bcp: share of the run on labelled patches alone
    semi.largest_component = True  # bcp: of an answer; unset where a class has many parts
    semi.baseline = True  # train on the labelled cases alone too, as many steps, to compare with

    config.masked = masked = ConfigDict()  # of the paradigm of that name
    masked.block = 8  # voxels a side of what is hidden at once
    masked.share = 0.6  # of the blocks

    config.cyclegan = cyclegan = ConfigDict()  # of the paradigm of that name
    cyclegan.source = "t1"  # channels by name: what is translated
    cyclegan.target = "flair"  # into what
    cyclegan.simulated = False  # synthetic patients are the source, all training cases the target
    cyclegan.guard = True  # the networks see the labels beside the image
    cyclegan.width = 16  # channels of the first stage of both networks
    cyclegan.blocks = 3  # residual blocks of a generator
    cyclegan.layers = 2  # of a discriminator: a score sees 16, 34, 70 voxels with 1, 2, 3
    cyclegan.cycle = 10.0  # weights against the adversarial terms
    cyclegan.identity = 5.0  # 0 = without
    cyclegan.pool = 50  # made images that the discriminators meet again

    config.eval = judge = ConfigDict()
    judge.root = config_dict.placeholder(str)  # --mode eval: judge on this data set instead
    judge.against = config_dict.placeholder(str)  # another run's folder: compared case by case
    judge.test = True  # False: a training opens no test case, as in a sweep
    judge.checkpoint = "last"  # last, best
    judge.overlap = 0.5
    judge.mirror = True
    judge.tiles = 0  # windows at a time, spread over the devices; 0: one each, at least two
    judge.space = 1  # devices that share each window, for those too large for one
    judge.whole = False  # each scan is one window, compiled for its size
    judge.tolerance = 1.0  # mm, of the surface Dice
    judge.segmenter = ""  # cyclegan: work folder of a segmenter of the true target images
    judge.largest_component = True  # kept where the validation cases say it helps

    config.export = export = ConfigDict()  # of --mode export
    export.route = "auto"  # direct, jax2tf; auto: the faster of those that pass
    export.precision = "float32"  # float16; int8: weights and activations in eight bits
    export.flavour = "cpu"  # of eight bits: cpu (uint8 activations), tensorrt (int8, in float16)
    export.calibration = "percentile"  # minmax, mse: what of an activation has eight bits
    export.cases = 8  # training cases that calibrate, two windows each
    export.runtime = "auto"  # onnxruntime, openvino; auto: openvino where it is installed
    export.lost = 0.012  # mean Dice or accuracy that may go with bits and channels; 1: all of it
    export.farther = (
        0.1  # share by which the mean HD95 may grow; one stray voxel in one case is enough
    )
    export.faster = 0.0  # so many times as fast as float32 before pruning; 0: as it comes
    export.smaller = 0.0  # so many times as small a file
    config.lock()
    return config
