"""How much time does sampling take beside its network, and beside diffusers' ControlNet pipeline?

Called by `python -m benchmarks.sampling WORKSPACE speed`. Processor seconds at one thread, by turns in one run.
"""

import cProfile
import pstats
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)

from fetalflex.diffusion.two_stage import SampleRequest, sample_images
from fetalflex.masks.segmenter import Segmenter
from fetalflex.model.condition import condition_from_layouts
from fetalflex.model.denoiser import Denoiser
from fetalflex.model.generator import Generator
from fetalflex.params import Sample

SEED, IMAGES, DDPM_STEPS, MEASURED_STEPS = 7, 8, 1000, 20
GUIDANCE = 2.5  # other than 1: both sides evaluate two conditions per image
Timed = tuple[float, float]


def measure_speed(
    generator: Generator, guide: Segmenter, requests: Sequence[SampleRequest], params: Sample, rounds: int
) -> None:
    """Print the ratio to the bare network, the profile and the ratios to the ControlNet pipeline."""
    requests = list(requests)[:IMAGES]
    whole = params.model_copy(update={"agreement": 1.0})
    settings = {
        "two stages, whole budget": whole,
        "two stages, whole budget, no steering": whole.model_copy(update={"steering": 0.0}),
    }
    print(f"{len(requests)} images in batches of {params.batch_size}, {rounds} rounds by turns")
    print("| sampling | network calls | s per image | bare network, s per image | rate of the bare network (each) |")
    print("|---|---|---|---|---|")
    for name, setting in settings.items():
        calls = network_calls(generator, guide, requests, setting)
        bare = bare_network(generator, requests, calls)
        ours, theirs = by_turns(
            lambda s=setting: sample_images(generator, guide, requests, s, SEED), bare, rounds
        )  # fmt: skip
        ratios = np.array([b[0] / o[0] for o, b in zip(ours, theirs, strict=True)])
        each = ", ".join(f"{r:.3f}" for r in ratios)
        mine, net = np.median([o[0] for o in ours]), np.median([b[0] for b in theirs])
        print(f"| {name} | {len(calls)} of {max(calls)} | {mine / len(requests):.3f} | {net / len(requests):.3f} | "
              f"{np.median(ratios):.3f} ({each}) |", flush=True)  # fmt: skip
    profile(generator, guide, requests, whole)
    compare_pipeline(generator, guide, requests, whole, rounds)


def network_calls(generator: Generator, guide: Segmenter, requests: list[SampleRequest], params: Sample) -> list[int]:
    """Return the batch of every call of the denoiser, in order."""
    sizes, predict = [], Denoiser.predict

    def counted(self: Denoiser, x: torch.Tensor, t: torch.Tensor, code: object) -> torch.Tensor:
        sizes.append(len(x))
        return predict(self, x, t, code)  # type: ignore[arg-type]

    Denoiser.predict = counted  # type: ignore[method-assign, assignment]
    try:
        sample_images(generator, guide, requests, params, SEED)
    finally:
        Denoiser.predict = predict  # type: ignore[method-assign]
    return sizes


def bare_network(generator: Generator, requests: list[SampleRequest], calls: list[int]) -> Callable[[], None]:
    """Return a function that calls the denoiser as often, at the same batches, on tensors in memory."""
    asked = {}
    for size in set(calls):
        layouts = [requests[i % len(requests)].layout for i in range(size)]
        condition = condition_from_layouts(layouts, generator.vocabulary, generator.size)
        with torch.no_grad():
            code = generator.denoiser.layout_encoder(condition)
        asked[size] = torch.randn(size, 1, generator.size, generator.size), torch.full((size,), 0.5), code

    @torch.no_grad()
    def run() -> None:
        for size in calls:
            generator.denoiser.predict(*asked[size])

    run()
    return run


def by_turns(one: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[list[Timed], list[Timed]]:
    """Time two functions by turns (both have run before): (processor seconds, clock seconds) per round."""
    return tuple(zip(*[(timed(one), timed(other)) for _ in range(rounds)], strict=True))  # type: ignore[return-value]


def timed(function: Callable[[], object]) -> Timed:
    """Return processor and clock seconds of one call."""
    cpu, clock = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - cpu, time.perf_counter() - clock


PARTS = {
    ("denoiser.py", "predict"): "denoiser",
    ("segmenter.py", "predict"): "guide looks (after each stage)",
    ("guidance.py", "guide_gradient"): "guide's gradient (steering)",
    ("layout_encoder.py", "forward"): "layout encoder",
    ("condition.py", "condition_from_layouts"): "layouts drawn",
    ("guidance.py", "wanted"): "layouts drawn for the guide",
    ("agreement.py", "agreement"): "agreement",
    ("agreement.py", "adapt"): "outlines adapted",
    ("solver.py", "noise"): "noise drawn",
}


def profile(generator: Generator, guide: Segmenter, requests: list[SampleRequest], params: Sample) -> None:
    """Print the shares of the parts of sampling, and the dearest operators of torch."""
    profiler = cProfile.Profile()
    profiler.runcall(sample_images, generator, guide, requests, params, SEED)
    stats = pstats.Stats(profiler)
    total = stats.total_tt  # type: ignore[attr-defined]
    shares = {}
    for (file, _, name), (_, _, _, cumulative, _) in stats.stats.items():  # type: ignore[attr-defined]
        part = PARTS.get((file.rsplit("/", 1)[-1], name))
        if part:
            shares[part] = shares.get(part, 0.0) + cumulative / total
    shares["everything else"] = 1 - sum(shares.values())
    print("\nshares: " + ", ".join(f"{k} {v:.1%}" for k, v in sorted(shares.items(), key=lambda kv: -kv[1])))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as operators:
        sample_images(generator, guide, requests, params, SEED)
    table = sorted(operators.key_averages(), key=lambda e: -e.self_cpu_time_total)
    whole = sum(e.self_cpu_time_total for e in table)
    print("operators: " + ", ".join(f"{e.key} {e.self_cpu_time_total / whole:.1%}" for e in table[:6]), flush=True)


def compare_pipeline(
    generator: Generator, guide: Segmenter, requests: list[SampleRequest], params: Sample, rounds: int
) -> None:
    """Print seconds per image of diffusers' ControlNet pipeline with a UNet of the same channels, random weights."""
    pipe = controlnet_pipeline(generator)
    count = sum(p.numel() for m in (pipe.unet, pipe.controlnet) for p in m.parameters())
    own = sum(p.numel() for p in generator.denoiser.parameters())
    print(f"\nparameters: ours {own / 1e6:.2f} M, ControlNet pipeline {count / 1e6:.2f} M "
          f"(UNet {sum(p.numel() for p in pipe.unet.parameters()) / 1e6:.2f} M)")  # fmt: skip
    rows: dict[str, list[float]] = {"ours": [], "DDIM-50": [], "DDPM-1000": []}
    for _ in range(max(1, rounds // 2)):
        rows["ours"].append(timed(lambda: sample_images(generator, guide, requests, params, SEED))[0] / len(requests))
        for name, kind, steps in (("DDIM-50", DDIMScheduler, 50), ("DDPM-1000", DDPMScheduler, MEASURED_STEPS)):
            pipe.scheduler = kind()
            seconds = timed(lambda s=steps: run_pipeline(pipe, generator, params.batch_size, s))[0]
            rows[name].append(seconds / params.batch_size)
    rows["DDPM-1000"] = [s * DDPM_STEPS / MEASURED_STEPS for s in rows["DDPM-1000"]]
    ours = float(np.median(rows["ours"]))
    for name, seconds in rows.items():
        each = ", ".join(f"{s:.2f}" for s in seconds)
        print(f"{name}: {np.median(seconds):.2f} s per image ({each}), {np.median(seconds) / ours:.1f} x ours")
    print(f"DDPM-1000 extrapolated from {MEASURED_STEPS} steps")


def controlnet_pipeline(generator: Generator) -> StableDiffusionControlNetPipeline:
    """Return the pipeline: our UNet's channels on as many positions, a ControlNet made from it, a small decoder."""
    config = {k: v for k, v in dict(generator.denoiser.unet.config).items() if not k.startswith("_")}
    config |= {"in_channels": 4, "out_channels": 4, "class_embed_type": None}
    config |= {"projection_class_embeddings_input_dim": None}
    unet = UNet2DConditionModel(**config)
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32))
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64), norm_num_groups=8, sample_size=generator.size,
    )  # fmt: skip
    pipe = StableDiffusionControlNetPipeline(
        vae, None, None, unet, controlnet, DDIMScheduler(), None, None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run_pipeline(pipe: StableDiffusionControlNetPipeline, generator: Generator, batch: int, steps: int) -> None:
    """Make one batch of images with classifier-free guidance."""
    width = pipe.unet.config.cross_attention_dim
    prompt = torch.zeros(batch, 31, width)  # as many tokens as our layouts have
    control = torch.zeros(batch, 3, generator.size, generator.size)
    pipe(
        prompt_embeds=prompt, negative_prompt_embeds=prompt, image=control, num_inference_steps=steps,
        guidance_scale=GUIDANCE, height=generator.size, width=generator.size, output_type="np",
    )  # fmt: skip
