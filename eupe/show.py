"""Tables of the trainer's command line."""

from eupe.config import Stage
from eupe.plan import JPEG, Plan


def plan_table(stage: Stage, plan: Plan, ranks: int, tflops: float) -> str:
    """What a stage costs, in lines, and which choices are in force."""
    lines = [f"{'network':<24}{'GFLOP forward':>16}{'parameters M':>16}"]
    for name, flops in plan.teachers.items():
        lines.append(f"{'teacher ' + name:<24}{flops / 1e9:>16.3f}{plan.parameters[name] / 1e6:>16.1f}")
    for name, flops in plan.students.items():
        heads = f"{flops / 1e9:.3f} + {plan.heads[name] / 1e9:.3f}"
        lines.append(f"{'student ' + name:<24}{heads:>16}{plan.parameters[name] / 1e6:>16.1f}")
    share = sum(plan.teachers.values()) / plan.image
    hours = plan.hours(tflops * 1e12)
    memory, gb = plan.memory, 1e9
    images = stage.micro or stage.share(ranks)
    lines += [
        "",
        f"an image          {plan.image / 1e9:,.1f} GFLOP with the backward passes, {share:.1%} of it teachers",
        f"the stage         {plan.steps:,} steps of {plan.batch:,} images, {plan.total:.3g} FLOP",
        f"memory            {(memory.frozen + memory.trained) / gb:.1f} GB on each of {ranks}: teachers "
        f"{memory.frozen / gb:.1f}, students with gradients and moments {memory.trained / gb:.1f}",
        f"                  + about {memory.activations / gb:.1f} GB of activations of the largest student for "
        f"{images} images at once; what libraries and the teachers' passes need is left out",
        f"crops             {plan.pixels / 1e6:,.1f} MB a step to the devices",
        f"files             {plan.files / 1e12:,.2f} TB over the stage, passes over the same images counted, at "
        f"{JPEG / 1e3:g} kB an image (the mean of ImageNet-1k)",
        f"time              {hours:,.0f} device hours at {tflops:g} TFLOP/s, {hours / ranks:,.0f} h on {ranks}",
        "",
        *choices(stage, ranks),
    ]
    return "\n".join(lines)


def choices(stage: Stage, ranks: int) -> list[str]:
    """What is in force, defaults and scaling worked out."""
    rate, optimisation, peak = stage.rate, stage.optimisation, stage.rate.peak(stage.batch)
    sides = "/".join(map(str, stage.sides))
    theirs = "/".join(map(str, stage.teacher_sides)) or ", ".join(
        f"{name} {teacher.side}" for name, teacher in stage.teachers.items()
    )
    spread = {
        name: "alone" if ranks == 1 else "sharded" if config.shard else "a copy on each process"
        for name, config in stage.students.items()
    }
    share = stage.share(ranks)
    return [
        f"learning rate     {peak:.3g} at the peak (base {rate.base:g}, scaling {rate.scaling}), after {rate.warmup:,} "
        f"steps of warm-up, then a cosine to {peak * rate.final:.3g}; {stage.heads_only:,} steps heads only",
        f"optimiser         {optimisation.name}, betas {optimisation.betas}, weight decay "
        f"{optimisation.weight_decay:g} on matrices, clip {optimisation.clip:g}, average {stage.average or 'off'}",
        f"sides             students {sides}, teachers {theirs}, crops of {stage.canvas}",
        f"batch             {stage.batch:,} = {ranks} x {share:,}"
        + (f", {share // stage.micro} micro-batches of {stage.micro}" if stage.micro else ""),
        f"arithmetic        {stage.dtype}, weights and loss fp32; compile {'on' if stage.compile else 'off'}",
        f"students          {', '.join(f'{name}: {how}' for name, how in spread.items())}",
        "images            " + ", ".join(f"{name} {source.share:.0%}" for name, source in stage.sources.items()),
    ]
