"""Run an experiment: python launch.py --config experiments/NAME.py [--mode MODE] [--workdir DIR]."""

from medjax.cli import run

if __name__ == "__main__":
    run()
