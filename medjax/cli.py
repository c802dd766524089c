"""The command line: flags, and the table from mode to file."""

import importlib
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from medjax import faults, hugepages, interrupt
from medjax.errors import UserError
from medjax.io.lock import locked

MODES = {
    "train": "medjax.modes.train",
    "eval": "medjax.modes.eval",
    "predict": "medjax.modes.predict",
    "verify": "medjax.modes.verify",
    "synthesize": "medjax.modes.synthesize",
    "claims": "medjax.modes.claims",
    "prune": "medjax.modes.prune_table",
    "export": "medjax.modes.export",
    "sweep": "medjax.modes.sweep",
}
READERS = ("verify", "prune", "predict")  # any number of them may use a work folder at once
USAGE = """usage: python launch.py --config FILE [--config.KEY=VALUE ...] [--mode MODE] [--workdir DIR]

  --config FILE      an experiment, e.g. experiments/brats_synth.py
  --config.KEY=VALUE overrides one of its keys, e.g. --config.train.minutes=10
  --mode MODE        {modes}; default: the experiment's own
  --workdir DIR      where the run lives; default: runs/NAME; the same command again resumes it
                     synthesize: the folder of the cases
  --input PATH       predict: an image, or a folder of images
  --output DIR       predict: where the label maps go
  --probabilities    predict: save a probability map per class too
  --coordinator A    train: HOST:PORT of the first of several processes, or auto (SLURM, MPI, Kubernetes, TPU)
  --processes N      their number
  --process I        which of them this is, 0 up to N - 1
  --ray_address A    sweep: of a Ray cluster; default: this machine alone
  --debug            show a traceback on errors
"""


def run(arguments: list[str] | None = None) -> None:
    """Runs the command line; every fault of the user's ends in one line and exit code 1, SIGTERM in 0.

    Without `arguments` it is those of the process, which may start itself anew (see `hugepages`).
    """
    if arguments is None:
        hugepages.restart()
        arguments = sys.argv[1:]
    code: Any = 1
    try:
        _run(arguments)
        code = 0
    except SystemExit as ended:
        code = ended.code
        raise
    finally:
        distributed = sys.modules.get("medjax.modes.distributed")
        if distributed is not None:
            distributed.leave(code)


def _run(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help", "-help"} & set(arguments):
        print(USAGE.format(modes=", ".join(MODES)), end="")
        raise SystemExit(0 if arguments else 1)
    debug = "--debug" in arguments
    warnings.showwarning = _one_line
    if not debug:  # Orbax logs tracebacks of what it raises as well
        logging.getLogger("absl").setLevel(logging.CRITICAL)
    try:
        with interrupt.noticed():
            _dispatch(arguments)
    except interrupt.Preempted:
        _fail("stopped by SIGTERM; the same command resumes the run", code=0)
    except KeyboardInterrupt:
        _fail("interrupted; the same command resumes the run", code=130)
    except UserError as error:
        if debug:
            raise
        _fail(str(error), code=error.code)
    except Exception as error:
        if debug:
            raise
        name, text = type(error).__name__, " ".join(str(error).split())[:500]
        _fail(faults.explained(error) or f"unexpected {name}: {text}; --debug shows where")


def _dispatch(arguments: list[str]) -> None:
    """Reads flags and config, and calls the mode."""
    config, values = _parse(arguments)
    mode = values["mode"] or config.mode
    if mode not in MODES:
        raise UserError(f"--mode: {mode!r} is unknown; choose one of {', '.join(MODES)}")
    workdir = Path(values["workdir"] or Path("runs", config.name))
    if values["coordinator"] and mode != "train":
        raise UserError(f"--coordinator: several processes train; run --mode {mode} in one")
    main = importlib.import_module(MODES[mode]).main
    if mode == "predict":
        for flag in ("input", "output"):
            if not values[flag]:
                raise UserError(f"--{flag}: is needed by --mode predict; give a path")
        extra = {"save_probabilities": values["probabilities"]}
        main(config, workdir, Path(values["input"]), Path(values["output"]), **extra)
    elif mode in READERS:
        main(config, workdir)
    elif mode == "sweep":
        with locked(workdir):
            main(config, workdir, experiment=_config_path(arguments), address=values["ray_address"])
    elif values["coordinator"]:
        distributed = importlib.import_module("medjax.modes.distributed")
        distributed.start(values["coordinator"], values["processes"], values["process"])
        distributed.run(main, config, workdir)
    else:
        with locked(workdir):
            main(config, workdir)


def _parse(arguments: list[str]) -> tuple[Any, dict[str, Any]]:
    """The config with its overrides and the plain flags; every fault in one line."""
    from absl import flags
    from ml_collections import config_flags

    found = flags.FlagValues()
    command = ["medjax", *arguments]
    config_flags.DEFINE_config_file("config", flag_values=found, sys_argv=command)
    flags.DEFINE_string("mode", "", "what to do", flag_values=found)
    flags.DEFINE_string("workdir", "", "where the run lives", flag_values=found)
    flags.DEFINE_string("input", "", "what to predict", flag_values=found)
    flags.DEFINE_string("output", "", "where predictions go", flag_values=found)
    flags.DEFINE_boolean("probabilities", False, "save probabilities", flag_values=found)
    flags.DEFINE_string("coordinator", "", "where the first process is", flag_values=found)
    flags.DEFINE_integer("processes", 1, "how many there are", flag_values=found)
    flags.DEFINE_integer("process", 0, "which one this is", flag_values=found)
    flags.DEFINE_string("ray_address", "", "of a Ray cluster", flag_values=found)
    flags.DEFINE_boolean("debug", False, "show tracebacks", flag_values=found)
    flags.FLAGS.mark_as_parsed()  # Grain's worker processes look at them
    path = _config_path(arguments)
    try:
        rest = found(command)
    except UserError:
        raise
    except Exception as error:
        raise UserError(_explain(error, path)) from error
    if len(rest) > 1:
        raise UserError(f"{rest[1]}: is no flag; write --config.KEY=VALUE, see --help")
    if found.config is None:
        raise UserError("--config: is needed; give an experiment, e.g. experiments/brats_synth.py")
    return found.config, found.flag_values_dict()


def _config_path(arguments: list[str]) -> str:
    """The file after --config; errors where it is none."""
    for position, argument in enumerate(arguments):
        if argument in ("--config", "-config"):
            path = arguments[position + 1] if position + 1 < len(arguments) else ""
        elif argument.startswith(("--config=", "-config=")):
            path = argument.split("=", 1)[1]
        else:
            continue
        if not Path(path.split(":")[0]).is_file():
            raise UserError(
                f"--config: {path or 'nothing'}: no such file; give an experiment's path"
            )
        if "get_config" not in Path(path.split(":")[0]).read_text("utf-8", "replace"):
            raise UserError(f"--config: {path}: is no experiment; it must define get_config()")
        return path
    return ""


def _explain(error: Exception, path: str) -> str:
    """What absl and ml_collections found, in one line."""
    # ml_collections quotes its messages, newlines and all, inside the text of another error
    plain = str(error).replace("\\n", " ").replace("\\", "").replace("''", "'").replace("?'", "?")
    text = " ".join(plain.split()).strip('"')
    if isinstance(error, AttributeError | KeyError):
        return f"{path or 'config'}: {text}; see medjax/modes/defaults.py for all keys"
    if isinstance(error, SyntaxError | ImportError):
        return f"{path}: is no readable config ({text}); it must define get_config()"
    return f"{text}; see --help"


def _one_line(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Warnings as one line, without the source line that raised them."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def _fail(text: str, code: int = 1) -> None:
    print(f"medjax: {text}", file=sys.stderr)
    raise SystemExit(code)
