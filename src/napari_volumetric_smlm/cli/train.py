"""vsmlm train: a network for an instrument."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from ..domain.accuracy import accuracy_words
from ..domain.plans import TrainPlan
from ..domain.runs import TrainingCost
from ..errors import ModelError, PlanError
from ..io.finished_models import finished_model
from ..io.instruments import load_instrument
from ..io.models import checkpoint_path, forget_checkpoint, write_model_weights
from .files import check_output, instrument_file, note
from .options import add_plan, plan_from
from .progress import Stopped, carry_out, duration

NAME = "train"
SUMMARY = "Train a network for an instrument, on frames that are simulated while it learns."
DETAILS = (
    "Give densities, photons and background as they are in your frames. Lengths are in nm, brightness in photons. The state is kept "
    "beside the model every two minutes and at Ctrl-C; the same command goes on from there, also after a kill. "
    "A finished model is replaced with --replace only."
)
INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("--instrument", type=instrument_file, required=True, metavar="CAL.json", help="The calibrated instrument.")
    parser.add_argument(
        "--output", type=Path, metavar="MODEL.safetensors", help="Model to write; its card stands beside it. Required to train."
    )
    parser.add_argument("--replace", action="store_true", help="Replace a finished model of this name when the new one is complete.")
    parser.add_argument(
        "--estimate", action="store_true", help="Train nothing: measure some steps of each preset on this device, tell time and memory."
    )
    add_plan(parser, TrainPlan)


def run(args: argparse.Namespace) -> int:
    """Train, write the model, and remove the checkpoint."""
    plan = plan_from(args, TrainPlan)
    if args.estimate:
        from ..recipes.training_estimate import estimate_training

        costs = carry_out(estimate_training(load_instrument(args.instrument), plan), args.quiet)
        print("\n".join([f"On {costs[0].device}, about:", *map(_cost_words, costs)]))
        return 0
    if args.output is None:
        raise PlanError("--output is required: the model to write (MODEL.safetensors), or --estimate to train nothing")
    if args.output.suffix != ".safetensors":
        raise ModelError(f"--output {args.output}: models are .safetensors files; give the name this ending")
    check_output(args.output, [args.instrument])
    instrument = load_instrument(args.instrument)
    there = finished_model(args.output, instrument, plan)
    if there is not None and not args.replace:
        words = f"{there.words}. To replace it add --replace, or choose another name"
        if not there.same:
            raise PlanError(words)
        print(words)
        return 0
    from ..recipes.train import train

    checkpoint = checkpoint_path(args.output)
    if checkpoint.is_file():
        note(args, f"going on from {checkpoint}")
    command = shlex.join(["vsmlm", *(word for word in sys.argv[1:] if word != "--replace")])
    try:
        result = carry_out(train(instrument, plan, checkpoint, command), args.quiet)
    except Stopped:
        print(f"Stopped; the same command goes on from {checkpoint}" if checkpoint.is_file() else "Stopped before the first step")
        return INTERRUPTED
    write_model_weights(result.weights, result.card.model_dump(mode="json"), args.output)
    forget_checkpoint(args.output)
    figures = accuracy_words(result.card.accuracy)
    frames = f"{result.card.frames_seen:,} frames in {duration(result.seconds)}"
    print(f"{args.output}: {frames}; on {result.card.tested_frames} frames that it never saw: {figures}")
    return 0


def _cost_words(cost: TrainingCost) -> str:
    memory = "" if cost.peak_mib is None else f", {cost.peak_mib / 1024:.1f} GiB"
    return f"  {cost.preset}: {cost.frames:,} frames in {duration(cost.seconds)}{memory}"
