import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from fetalflex.diffusion.objective import clean_estimate, flow_loss, interpolate, sample_times, velocity
from fetalflex.diffusion.solver import euler, euler_steps, heun, multistep, noise, time_grid, time_grids


def curved(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.sin(x) + 0.3 * t[:, None, None, None]


def test_euler_equals_diffusers_flow_match_euler() -> None:
    times = time_grid(12)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=times[:-1].tolist())
    x = noise([1, 2], 8)
    theirs = x
    for sigma, step in zip(scheduler.sigmas[:-1], scheduler.timesteps, strict=True):
        theirs = scheduler.step(curved(theirs, sigma.expand(2)), step, theirs).prev_sample
    assert torch.allclose(euler(curved, x, times), theirs, atol=1e-6)


def test_heun_is_of_second_order() -> None:
    x = noise([3], 8)
    exact = heun(curved, x, time_grid(2000))
    errors = [float((heun(curved, x, time_grid(n)) - exact).abs().max()) for n in (20, 40)]
    assert errors[0] / errors[1] > 3
    assert errors[1] < float((euler(curved, x, time_grid(40)) - exact).abs().max()) / 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers beside numpy 2
@pytest.mark.parametrize("start", [1.0, 0.6])
def test_multistep_equals_diffusers_dpm_solver(start: float) -> None:
    times = time_grid(12, start)
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, algorithm_type="dpmsolver++", solver_order=2,
        solver_type="midpoint", lower_order_final=False, euler_at_final=True, final_sigmas_type="zero",
    )  # fmt: skip
    scheduler.set_timesteps(12)
    scheduler.sigmas, scheduler.timesteps = times, times[:-1] * 1000
    x = noise([1, 2], 8)
    theirs = x
    for sigma, step in zip(times[:-1], scheduler.timesteps, strict=True):
        theirs = scheduler.step(curved(theirs, sigma.expand(2)), step, theirs).prev_sample
    assert torch.allclose(multistep(curved, x, times), theirs, atol=1e-5)
    assert not torch.allclose(euler(curved, x, times), theirs, atol=1e-3)


def test_multistep_is_of_second_order_at_one_evaluation_per_step() -> None:
    x, calls = noise([3], 8), []
    exact = heun(curved, x, torch.linspace(0.9, 0.1, 2001))  # at the ends, by design, its steps are Euler's

    def counted(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return curved(x, t)

    grids = [torch.linspace(0.9, 0.1, n + 1) for n in (20, 40)]
    errors = [float((multistep(counted, x, grid) - exact).abs().max()) for grid in grids]
    assert len(calls) == 60
    assert errors[0] / errors[1] > 3
    assert errors[1] < float((euler(curved, x, grids[1]) - exact).abs().max()) / 5


def test_every_step_tells_the_clean_image_that_its_velocity_pointed_to() -> None:
    clean, start = noise([1], 8), noise([2], 8)
    steps = list(euler_steps(lambda x, t: velocity(clean, start), start, time_grid(4)))
    assert [float(s.time) for s in steps] == [0.75, 0.5, 0.25, 0.0]
    assert all(torch.allclose(s.clean, clean, atol=1e-6) for s in steps)
    assert torch.equal(steps[-1].x, euler(lambda x, t: velocity(clean, start), start, time_grid(4)))


@pytest.mark.parametrize("solver", [euler, multistep])
def test_what_is_kept_is_put_back_after_every_step(solver: object) -> None:
    seen = []

    def keep(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.cat([t.expand(1, 1, 8, 1), x[..., 1:]], -1)

    solver(lambda x, t: seen.append(x[0, 0, 0, 0].item()) or x, noise([1], 8), time_grid(4), keep)  # type: ignore[operator,func-returns-value]
    assert seen[1:] == [0.75, 0.5, 0.25]


@pytest.mark.parametrize("solver", [euler, heun, multistep])
def test_a_straight_path_is_exact_in_one_step(solver: object) -> None:
    clean, start = noise([1], 8), noise([2], 8)
    out = solver(lambda x, t: velocity(clean, start), start, time_grid(1))  # type: ignore[operator]
    assert torch.allclose(out, clean, atol=1e-6)


def test_a_grid_per_image_equals_each_alone() -> None:
    x, starts = noise([1, 2], 8), torch.tensor([0.3, 0.9])
    both = euler(curved, x, time_grids(5, starts))
    for i in range(2):
        assert torch.equal(both[i : i + 1], euler(curved, x[i : i + 1], time_grid(5) * starts[i]))


def test_noise_depends_on_its_own_seed_alone() -> None:
    assert torch.equal(noise([5, 6], 8)[1], noise([6], 8)[0])


def test_clean_estimate_inverts_the_path() -> None:
    clean, eps, t = noise([1], 8), noise([2], 8), torch.tensor([0.4])
    assert torch.allclose(clean_estimate(interpolate(clean, eps, t), velocity(clean, eps), t), clean, atol=1e-6)


def test_loss_of_the_true_velocity_is_zero() -> None:
    clean, eps, t = noise([1, 2], 8), noise([3, 4], 8), torch.tensor([0.1, 0.7])
    assert not flow_loss(lambda x, s: velocity(clean, eps), clean, eps, t).any()


def test_times_follow_the_logit_normal_law() -> None:
    times = sample_times(4096, 0.5, 1.2, torch.Generator().manual_seed(0))
    logits = torch.logit(times)
    assert logits.mean() == pytest.approx(0.5, abs=0.02)
    assert logits.std() == pytest.approx(1.2, abs=0.03)
    assert 0 < times.min() < times.max() < 1
