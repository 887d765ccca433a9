"""When a measured difference of speed counts."""

from vtrain.bench.stats import Ratio


def verdict(ratio: Ratio, noise: Ratio | None) -> str:
    """Say `ahead`, `behind` or `tie`: a difference counts if it is surer and larger than noise.

    Args:
        ratio: Our speed over theirs.
        noise: The same between two processes of one program; its distance from 1 is no difference.
    """
    limit = max(abs(noise.low - 1), abs(noise.high - 1)) if noise is not None else 0.0
    if not ratio.excludes(1.0) or abs(ratio.median - 1) <= limit:
        return "tie"
    return "ahead" if ratio.median > 1 else "behind"
