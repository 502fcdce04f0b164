"""What the settings of a training may not say together, and why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .plans import TrainPlan

# mean on-time (frames) where a plan with neighbouring frames says none, and the least share of the lowest photons by which a molecule
# that was on for a part of a frame must be found in it
USUAL_ON_FRAMES, LEAST_SHARE_ON = 2.0, 0.25
UPSAMPLINGS = {"deepstorm3d": (4,), "autods3d": (1, 2, 4)}  # voxels per camera pixel of the published networks


def check_neighbours(plan: TrainPlan) -> None:
    """Check that who is shown neighbouring frames can read them, and that they show something.

    Raises
    ------
    ValueError
        With what contradicts what.
    """
    if plan.context_frames and plan.architecture != "lean":
        raise ValueError(
            f"context_frames is {plan.context_frames}, but {plan.architecture} reads single frames: leave context_frames out, "
            "or choose the architecture lean"
        )
    if plan.context_frames and plan.mean_on_frames == 0:
        raise ValueError(
            f"context_frames is {plan.context_frames}, but mean_on_frames is 0: molecules that are on for exactly one frame show nothing "
            "in its neighbours; give their mean on-time, or leave context_frames out"
        )
    if plan.mean_on_frames is not None and plan.architecture not in ("lean", *UPSAMPLINGS):
        raise ValueError(
            f"mean_on_frames is {plan.mean_on_frames:g}, but nothing blinks in what {plan.architecture} learns from: "
            "leave mean_on_frames out"
        )


def check_voxels(plan: TrainPlan) -> None:
    """Check that the voxels are those of an architecture that has some.

    Raises
    ------
    ValueError
        With what contradicts what.
    """
    kind = plan.architecture
    if kind in ("lean", "lnet4", "lnet8"):
        for name in ("upsampling", "depth_planes"):
            if getattr(plan, name) is not None:
                instead = f"leave {name} out, or choose deepstorm3d or autods3d" if kind == "lean" else f"leave {name} out"
                why = "the architecture 'lean' has no voxels" if kind == "lean" else f"{kind} has patches of its own"
                raise ValueError(f"{name} is {getattr(plan, name)}, but {why}: {instead}")
    elif kind in ("vnet", "vnet_paper"):
        if plan.upsampling is not None:
            raise ValueError(f"upsampling is {plan.upsampling}, but {kind}'s voxels are the camera's pixels: leave upsampling out")
    elif plan.upsampling is not None and plan.upsampling not in UPSAMPLINGS[kind]:
        known = " or ".join(map(str, UPSAMPLINGS[kind]))
        raise ValueError(f"upsampling is {plan.upsampling}, but {kind} knows {known} voxels per camera pixel only")
