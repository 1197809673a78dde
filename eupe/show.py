"""Tables of the trainer's command line."""

from eupe.plan import Plan


def plan_table(plan: Plan, ranks: int, tflops: float) -> str:
    """What a stage costs, in lines."""
    lines = [f"{'network':<24}{'GFLOP forward':>16}{'parameters M':>16}"]
    for name, flops in plan.teachers.items():
        lines.append(f"{'teacher ' + name:<24}{flops / 1e9:>16.3f}{plan.parameters[name] / 1e6:>16.1f}")
    for name, flops in plan.students.items():
        heads = f"{flops / 1e9:.3f} + {plan.heads[name] / 1e9:.3f}"
        lines.append(f"{'student ' + name:<24}{heads:>16}{plan.parameters[name] / 1e6:>16.1f}")
    share = sum(plan.teachers.values()) / plan.image
    hours = plan.hours(tflops * 1e12)
    lines += [
        "",
        f"an image          {plan.image / 1e9:,.1f} GFLOP with the backward passes, {share:.1%} of it teachers",
        f"the stage         {plan.steps:,} steps of {plan.batch:,} images, {plan.total:.3g} FLOP",
        f"weights, moments  {plan.memory / 1e9:.1f} GB on every process, without activations",
        f"crops             {plan.pixels / 1e6:,.1f} MB a step",
        f"time              {hours:,.0f} device hours at {tflops:g} TFLOP/s, {hours / ranks:,.0f} h on {ranks}",
    ]
    return "\n".join(lines)
